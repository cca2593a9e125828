"""Random programs: CUDA under emulation and the interpreter leave the same in memory."""

# Hypothesis types its health checks loosely.
# pyright: reportArgumentType=false

from __future__ import annotations

import numpy as np
import pytest
from emulated import run_func
from hypothesis import HealthCheck, given, seed, settings
from programs import Program, programs

from tilec.cuda import Schedule
from tilec.ir.core import Func
from tilec.passes import parse_pipeline, run


def lowered(program: Program) -> Func:
    """The program with numbers for its dimensions and tiles, canonical."""
    sizes = " ".join(f"{d}={n}" for d, n in program.dims.items() if "." not in d)
    tile = program.dims["m.tile"]
    return run(parse_pipeline(f"specialise{{{sizes}}},tile{{m={tile}}},canonicalize"), program.func)


def compare(program: Program, threads: int) -> None:
    """Equal in every element, NaN where NaN, and no check finds anything. Nothing is refused."""
    func = lowered(program)
    got = {name: np.array(x) for name, x in program.arguments.items()}
    late = f"pad,stage-loads,lay-out{{threads={threads}}},canonicalize"
    run_func(run(parse_pipeline(late), func), got, Schedule(threads))
    for name, want in program.run(func).items():
        np.testing.assert_array_equal(got[name], want, err_msg=name)


def settings_of(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )


@seed(0)
@given(program=programs(exact=True))
@settings_of(30)
def test_equals_the_interpreter(program: Program) -> None:
    compare(program, 128)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [32, 64, 128, 256])
@pytest.mark.parametrize("part", [1, 2])
def test_equals_the_interpreter_at_length(part: int, threads: int) -> None:
    """2,000 programs in all."""

    @seed(part * threads)
    @given(program=programs(exact=True))
    @settings_of(250)
    def law(program: Program) -> None:
        compare(program, threads)

    law()
