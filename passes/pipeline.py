"""Passes by name, pipelines as text: `specialise{M=4 K=8},tile{threads=2},canonicalize`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tilec.ir.core import Func
from tilec.ir.errors import TileError
from tilec.ir.recursion import deep
from tilec.ir.verify import verify
from tilec.observe import stage

Pass = Callable[..., Func]
Option = int | str | float | bool
_REGISTERED: dict[str, Pass] = {}


def passes() -> dict[str, Pass]:
    """Every pass by its name. Their modules are imported when first asked for, not with tilec."""
    importlib.import_module("tilec.passes.registered")
    return _REGISTERED


def named(name: str) -> Pass:
    """The pass of a name: its module is the only one imported where that is named after it."""
    if name not in _REGISTERED and importlib.util.find_spec(module := _module(name)) is not None:
        importlib.import_module(module)
    return _REGISTERED[name] if name in _REGISTERED else passes()[name]


def _module(name: str) -> str:
    return f"tilec.passes.{name.replace('-', '_')}"


def register(name: str) -> Callable[[Pass], Pass]:
    """Name a pass. Its keyword-only parameters, with their annotations, are its options."""

    def add(fn: Pass) -> Pass:
        if _REGISTERED.setdefault(name, fn) is not fn:
            raise TypeError(f"two passes are named {name!r}")
        return fn

    return add


@dataclass(frozen=True)
class Step:
    """One pass with its options."""

    name: str
    options: dict[str, Option] = field(default_factory=dict[str, Option])

    def __str__(self) -> str:
        words = " ".join(
            f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in self.options.items()
        )
        return self.name + (f"{{{words}}}" if words else "")

    def __call__(self, func: Func) -> Func:
        return named(self.name)(func, **self.options)


_READ: dict[str, Callable[[str], Option]] = {
    "int": int,
    "str": str,
    "float": float,
    "bool": {"true": True, "false": False}.__getitem__,
}
_STEP = re.compile(r"\s*([\w-]+)\s*(?:\{([^}]*)\})?\s*(?:,|$)")


def parse_pipeline(text: str) -> tuple[Step, ...]:
    """The steps of a textual pipeline. Raises TileError naming what is known."""
    steps: list[Step] = []
    at = 0
    while at < len(text.rstrip()):
        m = _STEP.match(text, at)
        if m is None:
            raise TileError(
                f"cannot read the pipeline at {text[at:]!r}", hint="name{option=value ...},name"
            )
        if m[1] not in passes():
            raise TileError(f"no pass is called {m[1]!r}; there are {', '.join(sorted(passes()))}")
        steps.append(Step(m[1], _options(m[1], m[2] or "")))
        at = m.end()
    return tuple(steps)


def _options(name: str, text: str) -> dict[str, Option]:
    parameters = inspect.signature(passes()[name]).parameters
    known = {k: p for k, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    free = next((p for p in parameters.values() if p.kind is p.VAR_KEYWORD), None)
    options: dict[str, Option] = {}
    for word in text.split():
        key, _, value = word.partition("=")
        parameter = known.get(key, free)
        if parameter is None:
            raise TileError(f"{name} has no option {key!r}; it has {', '.join(known) or 'none'}")
        try:
            options[key] = _READ[str(parameter.annotation)](value)
        except (KeyError, ValueError):
            raise TileError(
                f"{name}: {key} is {value!r}, expected {parameter.annotation}"
            ) from None
    return options


Dump = Callable[[Step, Func, float], None]


@deep()
def run(steps: Sequence[Step], func: Func, dump: Dump | None = None) -> Func:
    """Apply the steps in order and verify after each.

    `dump(step, func, seconds)` sees what each step made and how long it took. Whatever a step
    raises, or a TileError where its result is not well formed, gets notes that name the step and
    the command that shows the error again.
    """
    for i, step in enumerate(steps):
        start = time.perf_counter()
        try:
            with stage(step.name, "pass"):
                func = step(func)
            seconds = time.perf_counter() - start
            with stage("verify", "verify"):
                verify(func)
        except Exception as e:
            pipeline = ",".join(map(str, steps[: i + 1]))
            e.add_note(f"in the pass {step}")
            e.add_note(f"to reproduce: tilec opt -p '{pipeline}' FILE")
            raise
        if dump is not None:
            dump(step, func, seconds)
    return func
