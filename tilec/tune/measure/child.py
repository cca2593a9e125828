"""What runs in the process that measures: requests in, answers out, one JSON line each.

`python -m tilec.tune.measure.child`. The first request is {job, policy, default}.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from tilec.ir.errors import TileError
from tilec.tune.config import Config
from tilec.tune.job import Job, Policy
from tilec.tune.measure.session import Session, answered

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]
Open = Callable[[Mapping[str, Any]], Answer]
LONGEST = 4000  # letters of a message


def serve(opened: Open) -> None:
    """Answer requests until there are no more. `opened` answers those after the first."""
    asked, answers = (os.fdopen(int(fd), how) for fd, how in zip(sys.argv[-2:], ("rb", "wb"),
                                                                 strict=True))  # fmt: skip
    answer: Answer | None = None
    for line in asked:
        try:
            if answer is None:
                answer, found = opened(json.loads(line)), dict[str, Any]()
            else:
                found = answer(json.loads(line))
        except TileError as e:
            found = {"failure": "error", "detail": str(e)}
        except MemoryError:
            found = {"failure": "resource_exceeded", "detail": "out of memory"}
        except Exception:  # whatever a compiler raises is what came of a config
            found = {"failure": "error", "detail": traceback.format_exc()[-LONGEST:]}
        answers.write(json.dumps(found).encode() + b"\n")
        answers.flush()


def of_kernels(request: Mapping[str, Any]) -> Answer:
    """A session of a kernel. Raises TileError."""
    job, policy = Job.from_json(request["job"]), Policy.from_json(request["policy"])
    session = Session(job, policy, Config.from_json(request["default"]))
    return lambda asked: answered(session, asked)


if __name__ == "__main__":
    serve(of_kernels)
