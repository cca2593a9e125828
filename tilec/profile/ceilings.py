"""What the machine can do at most: bytes read and multiply-adds a second, with every thread.

Both are loops of our own vector level; what they leave behind is checked before they are timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from tilec.codegen.cpu.llvm import Function, V, constant
from tilec.codegen.cpu.tiles import SECOND
from tilec.compile import engine
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.source import KernelSource, Param

Run = Callable[[], object]
Body = Callable[[Function, V], V]
AHEAD = 4096  # bytes between what is read and what is asked for
FAR = 8192  # the same where the second cache is asked, 3 % faster there
CHUNKS = 16  # of the memory that is read; a thread gets neighbours
STEP = 512  # bytes of an iteration
VECTORS = 24  # independent accumulators
TURNS = 40_000  # of the arithmetic loop
TRIES = 9  # calls to find the faster of two instructions
ONES = 0x3F803F80  # two bf16 of 1.0


def read(size: int) -> tuple[Run, int]:
    """A function that reads about `size` bytes once, and how many. Raises TileError if it skips."""
    part = size // CHUNKS // STEP * STEP
    data = np.random.default_rng(0).integers(0, 1 << 31, CHUNKS * part // 4, np.int32)
    ahead, cache = (FAR, 2) if engine().machine.cpu in SECOND else (AHEAD, 1)

    def body(f: Function, chunk: V) -> V:
        base = f.pointer(_argument(f, 0), f.binary("mul", chunk, constant("i64", part)))

        def step(i: V, sums: list[V]) -> list[V]:
            at = f.pointer(base, i)
            for line in range(STEP // 64):
                f.prefetch(f.pointer(at, ahead + 64 * line), cache)
            loads = [f.load("i32", 16, f.pointer(at, 64 * j)) for j in range(STEP // 64)]
            return [f.binary("xor", s, x) for s, x in zip(sums, loads, strict=True)]

        sums = f.carry(0, part, STEP, [constant("i32", 0, 16)] * (STEP // 64), step)
        return _folded(f, sums, "xor")

    out = np.zeros((CHUNKS, 16), np.int32)
    run = _launch("read", body, data, out)
    run()
    if np.bitwise_xor.reduce(out, None) != np.bitwise_xor.reduce(data):
        raise TileError("the reading loop does not read every byte")
    return run, data.nbytes


def copied(size: int) -> tuple[Run, int]:
    """A function that copies about `size` bytes, and how many. Raises TileError if it skips."""
    part = max(1, size // CHUNKS // STEP) * STEP

    def body(f: Function, chunk: V) -> V:
        start = f.binary("mul", chunk, constant("i64", part))
        given, out = (f.pointer(_argument(f, i), start) for i in (0, 1))

        def step(i: V) -> None:
            for line in range(STEP // 64):
                at = f.pointer(f.pointer(given, i), 64 * line)
                f.prefetch(f.pointer(at, AHEAD))
                f.store(f.load("i32", 16, at), f.pointer(f.pointer(out, i), 64 * line))

        f.loop(0, part, STEP, step)
        return f.load("i32", 16, out)

    data = np.random.default_rng(0).integers(0, 1 << 31, CHUNKS * part // 4, np.int32)
    out = np.zeros((CHUNKS, part // 4), np.int32)
    run = _launch("copy", body, data, out)
    run()
    if not np.array_equal(out.reshape(-1), data):
        raise TileError("the copying loop does not copy every byte")
    return run, data.nbytes


def arithmetic(narrow: bool = True) -> tuple[Run, float]:
    """A function of multiply-adds in registers only, and its operations: of f32, `narrow` of bf16
    pairs where there are any that take less time. Raises TileError if it skips some."""
    one = int(np.float32(1.0).view(np.int32))
    floats = _products("float", one, 1, lambda f, s, x: f.intrinsic("fma", x, x, s))
    if not (narrow and _has("avx512bf16")):
        return floats

    def pair(f: Function, s: V, x: V) -> V:
        x = f.recast(x, "bfloat", 32)
        return f.call("llvm.x86.avx512bf16.dpbf16ps.512", "float", 16, s, x, x)

    pairs = _products("float", ONES, 2, pair)
    return min(pairs, floats, key=lambda found: _taken(found[0]) / found[1])


def _taken(run: Run) -> float:
    """Seconds of a call: the shortest of some."""
    times: list[float] = []
    for _ in range(TRIES):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def of_bytes() -> tuple[Run, float]:
    """As `arithmetic`, of bytes: fours of them where there are such instructions, else f32."""
    if not _has("avx512vnni"):
        return arithmetic(narrow=False)

    def four(f: Function, s: V, x: V) -> V:
        x = f.recast(x, "i8", 64)
        return f.call("llvm.x86.avx512.vpdpbusd.512", "i32", 16, s, x, x)

    return _products("i32", 0x01010101, 4, four)


def _has(feature: str) -> bool:
    return f"+{feature}" in engine().machine.features.split(",")


def _products(kind: str, one: int, pack: int, product: Callable[[Function, V, V], V]
              ) -> tuple[Run, float]:  # fmt: skip
    """Independent sums of products of ones, `pack` in a lane; `one` is a lane of them."""
    chunks = 2 * engine().pool.threads
    data = np.full(16, one, np.int32)

    def body(f: Function, chunk: V) -> V:
        ones = f.load("i32", 16, _argument(f, 0))

        def step(_: V, sums: list[V]) -> list[V]:
            x = ones if kind == "i32" else f.recast(ones, kind, 16)
            return [product(f, s, x) for s in sums]

        sums = f.carry(0, TURNS, 1, [constant(kind, 0, 16)] * VECTORS, step)
        total = _folded(f, sums, "add" if kind == "i32" else "fadd")
        return total if kind == "i32" else f.recast(total, "i32", 16)

    out = np.zeros((chunks, 16), np.int32)
    run = _launch("arithmetic", body, data, out)
    run()
    of_lane = TURNS * VECTORS * pack
    if not ((out if kind == "i32" else out.view(np.float32)) == of_lane).all():
        raise TileError("the arithmetic loop does not do every multiply-add")
    return run, 2.0 * of_lane * 16 * chunks


def _argument(f: Function, place: int) -> V:
    slot = f.op("ptr", 1, f"getelementptr ptr, ptr %args, i64 {place}")
    return f.load("ptr", 1, slot, 8)


def _folded(f: Function, values: list[V], op: str) -> V:
    out = values[0]
    for v in values[1:]:
        out = f.binary(op, out, v)
    return out


def _launch(name: str, body: Body, data: Array, out: Array) -> Run:
    """A call whose chunks each read `data` and write a vector into a row of `out`."""
    host, declared, chunk = engine(), set[str](), V("i64", 1, "%chunk")
    f = Function(f"{name}.0", "ptr %args, i64 %chunk, i32 %tid", declared)
    result = body(f, chunk)
    row = constant("i64", out[0].nbytes)
    f.store(result, f.pointer(_argument(f, 1), f.binary("mul", chunk, row)))
    entry = Function(name, "ptr %args", declared)
    declared.add("declare void @tilec_parallel(ptr, ptr, i64)")
    entry.emit(f"call void @tilec_parallel(ptr @{name}.0, ptr %args, i64 {len(out)})")
    machine = host.machine
    attributes = (
        f'attributes #0 = {{ nounwind "target-cpu"="{machine.cpu}" '
        f'"target-features"="{machine.features}" "prefer-vector-width"="512" '
        '"min-legal-vector-width"="512" }'
    )
    text = "\n".join([*sorted(declared), f.text("#0"), entry.text("#0"), attributes])
    params = tuple(Param(n, "i32", a.shape, "tensor", i)
                   for i, (n, a) in enumerate((("data", data), ("out", out))))  # fmt: skip
    compiled = host.load(KernelSource("llvm", text, name, params))

    def known(_: tuple[object, ...]) -> object:
        return compiled

    return partial(host.dispatcher(name, known).launch, data, out)
