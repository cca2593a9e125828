"""Random programs: compiled code and the interpreter leave the same in memory."""

# Hypothesis types its health checks loosely.
# pyright: reportArgumentType=false

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from programs import Program, programs

from tilec.codegen.cpu import emit
from tilec.ir.bits import is_packed, pack_rows, unpack_rows
from tilec.ir.core import Func
from tilec.ir.dtype import Array
from tilec.ir.source import Param
from tilec.ir.types import Memory, Tile
from tilec.passes import parse_pipeline, run
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine

GUARD = 0xA5  # around every array, to see what is written beside it


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Cache(None), threads=2)


def lowered(program: Program) -> Func:
    """The program with numbers for its dimensions and tiles, canonical."""
    sizes = " ".join(f"{d}={n}" for d, n in program.dims.items() if "." not in d)
    tile = program.dims["m.tile"]
    return run(parse_pipeline(f"specialise{{{sizes}}},tile{{m={tile}}},canonicalize"), program.func)


def stored(t: Memory, x: Array) -> Array:
    """An array as it lies in memory, with guard bytes behind it."""
    raw = pack_rows(t.dtype, x) if is_packed(t.dtype) else t.dtype.to_storage(x)
    raw = np.ascontiguousarray(raw).reshape(-1).view(np.uint8)
    return np.concatenate([raw, np.full(64, GUARD, np.uint8)])


def restored(t: Memory, raw: Array) -> Array:
    """The carriers again, once the guard is seen to be whole."""
    body, guard = raw[:-64], raw[-64:]
    assert (guard == GUARD).all(), "written beyond the end"
    shape = tuple(int(str(d)) for d in t.shape)
    if is_packed(t.dtype):
        return unpack_rows(t.dtype, body.reshape(*shape[:-1], -1), shape[-1])
    return t.dtype.from_storage(body.view(t.dtype.numpy).reshape(shape))


def compiled(engine: Engine, program: Program) -> dict[str, Array]:
    """What the parameters hold after the compiled program."""
    func = lowered(program)
    params: list[Param] = []
    arguments: list[Array | int | float | bool] = []
    for i, p in enumerate(func.params):
        if isinstance(p.type, Memory):
            raw = stored(p.type, program.arguments[p.hint])
            params.append(Param(p.hint, "u8", (raw.size,), "tensor", i))
            arguments.append(raw)
        else:
            assert isinstance(p.type, Tile)
            params.append(Param(p.hint, str(p.type.dtype), (), "scalar", i))
            arguments.append(program.arguments[p.hint].item())
    machine = engine.machine
    source = emit(func, tuple(params), machine.cpu, machine.features, 2)
    code = engine.load(source)
    engine.dispatcher("random", lambda _: code).launch(*arguments)
    return {p.hint: restored(p.type, raw) for p, raw in zip(func.params, arguments, strict=True)
            if isinstance(p.type, Memory) and isinstance(raw, np.ndarray)}  # fmt: skip


def compare(engine: Engine, program: Program) -> None:
    """Equal in every element, NaN where NaN."""
    want = program.run(lowered(program))
    for name, got in compiled(engine, program).items():
        np.testing.assert_array_equal(got, want[name], err_msg=name)


def settings_of(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )


@given(program=programs(exact=True))
@settings_of(60)
def test_equals_the_interpreter(engine: Engine, program: Program) -> None:
    compare(engine, program)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_equals_the_interpreter_at_length(engine: Engine, part: int) -> None:
    """2,400 programs in all."""

    @seed(part)
    @given(program=programs(exact=True))
    @settings_of(300)
    def law(program: Program) -> None:
        compare(engine, program)

    law()
