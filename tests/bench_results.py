"""Files of results as `tilec bench` writes them, made up: times in microseconds by contender."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

MACHINE = {
    "processor": "A Processor", "cores": 2, "kernel": "6.0", "python": "3.11.9",
    "versions": {"tilec": "0.1.0", "torch": "2.0"}, "date": "2026-11-21T00:00:00+00:00",
}  # fmt: skip
ROUNDS = 7


def contender(us: float, nbytes: int, operations: float, seed: int, noise: float,
              disturbed: bool = False) -> dict[str, Any]:  # fmt: skip
    """Its samples are normal around a median that is itself a little different in each round."""
    rng = np.random.default_rng(seed)
    rounds = us * (1 + noise * rng.standard_normal(ROUNDS))
    samples = [[] if disturbed else list(us + (r - us) + 0.01 * us * rng.standard_normal(20))
               for us, r in zip([us] * ROUNDS, rounds, strict=True)]  # fmt: skip
    flat = np.array([x for r in samples for x in r]) / 1e6
    return {
        "bytes": nbytes, "operations": operations, "error": 1e-3, "peak": None, "about": {},
        "seconds": None if disturbed else float(np.median(flat)),
        "low": None if disturbed else float(np.quantile(flat, 0.1)),
        "high": None if disturbed else float(np.quantile(flat, 0.9)),
        "work": us / 1e6, "kept": len(flat), "timed": 20 * ROUNDS, "share": None,
        "samples_us": samples,
    }  # fmt: skip


def case(name: str, axes: dict[str, Any], times: dict[str, float], ceiling: str | None = "read",
         seed: int = 0, noise: float = 0.01, disturbed: bool = False,
         skipped: dict[str, str] | None = None) -> dict[str, Any]:  # fmt: skip
    """A case of 1 MB and 2 million operations; its ceiling is one of the times."""
    found = {n: contender(us, 1_000_000, 2e6, 17 * seed + i, noise, disturbed)
             for i, (n, us) in enumerate(times.items())}  # fmt: skip
    ours = found.get("tilec")
    roof = found.get(ceiling) if ceiling else None
    for c in found.values():
        if roof and c["seconds"] and roof["seconds"]:
            c["share"] = roof["seconds"] / c["seconds"]
    peers = [n for n in found if n not in ("tilec", ceiling)]
    ratios = {n: _ratio(ours, found[n]) for n in peers} if ours else {}
    return {"name": name, "axes": axes, "ceiling": ceiling, "contenders": found, "ratios": ratios,
            "skipped": skipped or {}}  # fmt: skip


def _ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    pairs = zip(ours["samples_us"], theirs["samples_us"], strict=True)
    each = [median(b) / median(a) for a, b in pairs if a and b]
    return {"time": median(each) if each else None, "work": theirs["work"] / ours["work"],
            "rounds": len(each)}  # fmt: skip


def suite(name: str, cases: list[dict[str, Any]], threads: int = 2,
          skipped: dict[str, str] | None = None) -> dict[str, Any]:  # fmt: skip
    return {"suite": name, "threads": threads, "rounds": ROUNDS, "skipped": skipped or {},
            "cases": cases}  # fmt: skip


def write(path: Path, *suites: dict[str, Any], **machine: Any) -> Path:
    """A file of these suites."""
    found = {"schema": 1, "machine": MACHINE | machine, "suites": suites}
    path.write_text(json.dumps(found), "utf-8")
    return path


def several(slower: float = 1.0, noise: float = 0.01) -> list[dict[str, Any]]:
    """Two suites: one behind a peer in a case, with curves; one of the other ceiling."""
    cases = [
        case(f"{f} M={m}", {"format": f, "M": m, "N": 4096, "K": 4096},
             {"tilec": slower * (100 + 10 * m) * size, "torch int4": 260 + 22 * m,
              "torch bf16": 90 * 2.2 + 12 * m, "read": 90}, seed=i, noise=noise)
        for i, (f, size, m) in enumerate((f, size, m) for f, size in (("int4", 1), ("int8", 2.1))
                                         for m in (1, 2, 4, 8))
    ]  # fmt: skip
    cases[3]["skipped"] = {"scipy": "has no int4"}
    wide = [case(f"{n} square", {"M": n, "N": n, "K": n},
                 {"tilec": slower * n * n / 1e3, "torch bf16": n * n / 900, "arithmetic": 60.0},
                 "arithmetic", seed=40 + n, noise=noise) for n in (256, 1024)]  # fmt: skip
    return [suite("gemv", cases, 1, {"ggml": "llama-cpp-python is not installed"}),
            suite("gemm", wide)]  # fmt: skip
