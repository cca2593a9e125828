"""A study in the words of other tools: Kernel Tuner's T4 results (schema 1.0.0)."""

from __future__ import annotations

import json
import statistics
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from tilec.serve.tables import trials

INVALID = {"compile_error": "compile", "compile_timeout": "compile", "ptxas_crash": "compile",
           "wrong_result": "correctness", "resource_exceeded": "constraints"}  # fmt: skip


def t4(tx: Connection, study: Row[Any]) -> dict[str, Any]:
    """The measured trials of a study; times are in milliseconds."""
    said = select(trials).where(trials.c.study == study.id, trials.c.purpose == "measure",
                                trials.c.state.in_(("done", "failed", "poison")))  # fmt: skip
    rows = tx.execute(said.order_by(trials.c.number))
    return {"schema_version": "1.0.0", "results": [_result(r) for r in rows]}


def _result(row: Row[Any]) -> dict[str, Any]:
    times = json.loads(row.samples or "[[]]")[0]
    done = row.state == "done"
    compiling = {} if row.compiled is None else {"compilation_time": 1000 * row.compiled}
    return {
        "timestamp": datetime.fromtimestamp(row.finished or row.created, UTC).isoformat(),
        "configuration": json.loads(row.configs)[0],
        "times": {"runtimes": times, "framework": 1000 * (row.cost or 0.0), **compiling},
        "invalidity": "correct" if done else INVALID.get(row.failure or "", "runtime"),
        "correctness": int(done),
        "measurements": [{"name": "time", "value": statistics.median(times), "unit": "ms"}]
        if done else [],
        "objectives": ["time"],
    }  # fmt: skip
