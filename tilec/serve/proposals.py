"""What a sampler proposes, from JSON to JSON; as a program, a line for a line.

It runs as a child of the service: a space that takes a sampler too long is killed with it, and
requests are answered meanwhile. Searches are kept for speed only: each question says everything.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from tilec.ir.errors import TileError
from tilec.tune.config import Config
from tilec.tune.records import Failure, Study, Trial
from tilec.tune.search.loop import Search
from tilec.tune.search.transfer import Source
from tilec.tune.space import Space

KEPT = 8  # searches
MEMORY = 8 << 30  # bytes of address space
LONGEST = 300  # seconds for an answer


class Proposer:
    """Answers questions: {"id", "head" (or null where it was told before), "trials", "pending",
    "n"} by {"configs"}, {"unknown": true} or {"error"}."""

    def __init__(self) -> None:
        self.searches: OrderedDict[str, Search] = OrderedDict()

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer to one question."""
        try:
            search = self._search(asked)
            if search is None:
                return {"unknown": True}
            search.study = replace(search.study, trials=tuple(map(_trial, asked["trials"])))
            search.pending = tuple(Config.from_json(c) for c in asked["pending"])
            return {"configs": [c.to_json() for c in search.ask(asked["n"])]}
        except TileError as e:
            return {"error": e.message}
        except MemoryError:
            return {"error": "the sampler ran out of memory"}

    def _search(self, asked: dict[str, Any]) -> Search | None:
        id_, head = asked["id"], asked["head"]
        if id_ in self.searches:
            self.searches.move_to_end(id_)
        elif head is None:
            return None
        else:
            self.searches[id_] = _made(head)
            if len(self.searches) > KEPT:
                self.searches.popitem(last=False)
        return self.searches[id_]


def _made(head: dict[str, Any]) -> Search:
    study = Study("", "", Space.from_json(head["space"]), seed=head["seed"], budget=head["budget"])
    sources = [Source(tuple(map(_trial, s["trials"])), s["weight"]) for s in head["sources"]]
    return Search(study, head["sampler"], sources)


def _trial(pair: list[Any]) -> Trial:
    """A config with its seconds. One without failed for good, whatever the reason was."""
    config, seconds = Config.from_json(pair[0]), pair[1]
    if seconds is None:
        return Trial(config, failure=Failure.LAUNCH_ERROR)
    return Trial(config, (seconds,))


def main() -> None:
    """Answer lines on standard input until it ends."""
    with contextlib.suppress(ValueError, OSError):  # there is a lower limit already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    proposer = Proposer()
    for line in sys.stdin:
        signal.alarm(LONGEST)  # for a child whose parent was killed meanwhile
        print(json.dumps(proposer.answer(json.loads(line))), flush=True)
        signal.alarm(0)


if __name__ == "__main__":
    main()
