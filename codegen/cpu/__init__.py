"""Func -> LLVM IR for the processor: one function per grid, run over a pool of threads.

Before: extents are numbers but for dimensions that stay open, tile sizes are chosen, formats are
lowered to dense memory.
"""

from __future__ import annotations

from math import prod

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.control import Env, Walker
from tilec.codegen.cpu.llvm import Function, Number, V, constant
from tilec.codegen.cpu.operands import Copies, Copy, write_copy
from tilec.codegen.cpu.registers import register_tile
from tilec.codegen.cpu.thin import Turned
from tilec.codegen.cpu.tiles import Index, Lazy, Scratch, Tensor, Writer, scalar
from tilec.codegen.cpu.uses import often, rows_again
from tilec.ir.choices import Choices
from tilec.ir.core import Block, Func, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import names, substitute
from tilec.ir.format import Dense
from tilec.ir.ops.control import Grid
from tilec.ir.ops.memory import Write
from tilec.ir.ranges import Ranges
from tilec.ir.recursion import deep
from tilec.ir.source import KernelSource, Param
from tilec.ir.symbol import symbol
from tilec.ir.types import Memory, Tile

CHUNK = "ptr noalias %args, i64 %chunk, i32 %tid"
NOWHERE = V("ptr", 1, "null")


@deep()
def emit(
    func: Func, params: tuple[Param, ...], cpu: str, features: str, threads: int,
    ranges: Ranges | None = None, choices: Choices | None = None,
) -> KernelSource:  # fmt: skip
    """LLVM IR for a function whose parameters fill the slots that `params` describes.

    Parameters beyond those are memory of the kernel's own, between one grid and the next. The
    dimensions of `ranges` stay open: the code is for any of those sizes.

    Raises TileError where a size is unknown, an op has no code, or a choice is none for this
    processor.
    """
    func = Func(symbol(func.name), func.body, func.remarks)
    has = frozenset(word[1:] for word in features.split(",") if word.startswith("+"))
    chosen = _checked(choices or Choices(), has)
    module = _Module(func, params, cpu, features, has, threads, ranges or {}, chosen)
    text = module.text()
    remarks = tuple(dict.fromkeys(r for w in module.writers for r in w.remarks))
    return KernelSource("llvm", text, func.name, params, module.workspace, func.remarks + remarks,
                        ranges=ranges or {})  # fmt: skip


def _checked(choices: Choices, features: frozenset[str]) -> Choices:
    """The same choices, if this processor has them. Raises TileError."""
    register_tile(choices, features)
    if choices.nontemporal and "sse2" not in features:
        raise TileError("a schedule: nontemporal=1 needs SSE2, which this processor has not")
    return choices


class _Module:
    def __init__(
        self, func: Func, params: tuple[Param, ...], cpu: str, features: str, has: frozenset[str],
        threads: int, ranges: Ranges, choices: Choices,
    ) -> None:  # fmt: skip
        self.func, self.params, self.has, self.threads, self.cpu = func, params, has, threads, cpu
        self.choices = choices
        self.ranges = tuple(ranges)
        self.most = {name: found.most for name, found in ranges.items()}
        self.lanes = 16 if "avx512bw" in has else 8 if "avx2" in has else 4
        width = self.lanes * 32
        self.attributes = (
            f'nounwind "target-cpu"="{cpu}" "target-features"="{features}" '
            f'"prefer-vector-width"="{width}" "min-legal-vector-width"="{width}"'
        )
        self.uses, self.rows = often(func.body), rows_again(func.body)
        self.declared: set[str] = set()
        self.own: dict[Value, int] = {}  # bytes into the shared memory
        used = 0
        for p in func.params[len(params) :]:
            self.own[p] = used
            used += -(-self._size(p) // 64) * 64
        self.copies = Copies(used)
        self.writers: list[Writer] = []
        self.workspace = 0

    def text(self) -> str:
        """The module: a function per part, and the entry that runs them one after the other."""
        written: list[tuple[Function, Grid | int]] = []
        for i, (before, op) in enumerate(_parts(self.func.body)):
            had = len(self.copies.made)
            part = self._part(f"{self.func.name}.{i}", before, op)
            written += [self._copy(c, had + j) for j, c in enumerate(self.copies.made[had:])]
            written.append(part)
        size = max((w.scratch.used for w in self.writers), default=0)
        entry = Function(self.func.name, "ptr %args", self.declared)
        w = Writer(entry, self.lanes, self.has, Scratch(), NOWHERE, NOWHERE, *self._sizes(entry))
        for f, chunks in written:
            self._call(entry, f.name, chunks if isinstance(chunks, int) else _chunks(w, chunks))
        self.declared.add("declare void @tilec_parallel(ptr, ptr, i64)")
        shared = size * self.threads
        self.workspace = shared + self.copies.used
        bodies = [f.text("#0").replace("@SCRATCH@", str(size)).replace("@SHARED@", str(shared))
                  for f, _ in written]  # fmt: skip
        attributes = f"attributes #0 = {{ {self.attributes} }}\n"
        return "\n".join([*sorted(self.declared), *bodies, entry.text("#0"), attributes])

    def _call(self, entry: Function, name: str, chunks: Number) -> None:
        """Run all chunks of a part, by the pool unless one thread is enough."""
        if self.threads > 1:
            count = entry.number(chunks).text
            entry.emit(f"call void @tilec_parallel(ptr @{name}, ptr %args, i64 {count})")
            return
        call = f"call void @{name}(ptr %args, i64 {{}}, i32 0)"
        entry.loop(0, chunks, 1, lambda chunk: entry.emit(call.format(chunk.text)))

    def _copy(self, c: Copy | Turned, number: int) -> tuple[Function, int]:
        f = Function(f"{self.func.name}.copy{number}", CHUNK, self.declared, self.has)
        w = self._writer(f)
        tensor = self._arguments(w)[c.tensor.param]
        assert isinstance(tensor, Tensor)
        write_copy(w, c, tensor, V("i64", 1, "%chunk"))
        return f, c.chunks

    def _part(self, name: str, before: list[Op], op: Op) -> tuple[Function, Grid | int]:
        f = Function(name, CHUNK, self.declared, self.has)
        w = self._writer(f)
        self.copies.enter(frozenset(o.mem for o in [op, *_inside(op)] if isinstance(o, Write)))
        walker = Walker(w, self._arguments(w), self.uses, self.copies, self.rows)
        for earlier in before:
            walker.op(earlier)
        if not isinstance(op, Grid):
            walker.op(op)
            return f, 1
        counts = _spans(walker, op, V("i64", 1, "%chunk"))
        known = [n for n in counts if isinstance(n, int)]
        self.copies.repeated = len(known) < len(counts) or prod(known) > 1
        walker.block(op.body)
        if self.choices.nontemporal:  # what went past the caches is there before others are told
            f.declared.add("declare void @llvm.x86.sse.sfence()")
            f.emit("call void @llvm.x86.sse.sfence()")
        return f, op

    def _size(self, p: Value) -> int:
        """Bytes of memory of the kernel's own, at most."""
        assert isinstance(p.type, Memory)
        most = [substitute(d, self.most) for d in p.type.shape]
        known = [n for n in most if isinstance(n, int)]
        if len(known) < len(most):
            raise TileError(f"cpu: {p.type} is not dense memory of known extents")
        return prod(known) * numbers.item(p.type.dtype)

    def _slot(self, f: Function, i: int) -> V:
        return f.op("ptr", 1, f"getelementptr ptr, ptr %args, i64 {i}")

    def _sizes(self, f: Function) -> tuple[dict[str, Number], dict[str, int]]:
        """The dimensions that stay open: what they are at the call, and the most."""
        first = len(self.params)
        sizes: dict[str, Number] = {
            n: f.load("i64", 1, self._slot(f, first + i), 8) for i, n in enumerate(self.ranges)
        }
        return sizes, dict(self.most)

    def _writer(self, f: Function) -> Writer:
        space = self._slot(f, len(self.params) + len(self.ranges))
        wide = f.op("i64", 1, "zext i32 %tid to i64")
        own = f.op("i64", 1, f"mul i64 {wide.text}, @SCRATCH@")
        whole = f.load("ptr", 1, space, 8)
        shared = f.pointer(whole, V("i64", 1, "@SHARED@"))
        w = Writer(f, self.lanes, self.has, Scratch(), f.pointer(whole, own), shared,
                   *self._sizes(f), choices=self.choices, cpu=self.cpu)  # fmt: skip
        self.writers.append(w)
        return w

    def _arguments(self, w: Writer) -> Env:
        env: Env = {}
        for i, (p, given) in enumerate(zip(self.func.params, self.params, strict=False)):
            slot = self._slot(w.f, i)
            env[p] = _argument(w, p, slot, given)
        for p, offset in self.own.items():
            assert isinstance(p.type, Memory)
            env[p] = Tensor(p, w.f.pointer(w.shared, offset), _extents(w, p.type), p.type.dtype)
        return env


def _argument(w: Writer, p: Value, slot: V, given: Param) -> Tensor | Lazy:
    f = w.f
    match p.type:
        case Memory():
            at = f.load("ptr", 1, slot, 8)
            shape = _extents(w, p.type)
            return Tensor(p, at, shape, p.type.dtype, given.records, given.component)
        case Tile(dtype=dtype):
            kind = numbers.register(dtype)
            if kind == "i1":
                byte = f.load("i64", 1, slot, 8)
                return scalar(f, f.compare("icmp ne", byte, constant("i64", 0)), dtype)
            value = f.load(kind, 1, slot, 8)
            return scalar(
                f, numbers.round_float(f, dtype, value) if dtype.is_float else value, dtype
            )
        case _:
            raise TileError(f"cpu: a parameter cannot be {p.type}")


def _extents(w: Writer, t: Memory) -> Index:
    """The extents of dense memory, as the call has them."""
    unknown = frozenset[str]().union(*map(names, t.shape)) - w.sizes.keys()
    if unknown or not isinstance(t.format, Dense):
        raise TileError(f"cpu: {t} is not dense memory of known extents")
    return tuple(w.extent(d) for d in t.shape)


def _parts(body: Block) -> list[tuple[list[Op], Op]]:
    """Each op that writes memory, with the ops before it that do not (written again for each)."""
    before: list[Op] = []
    parts: list[tuple[list[Op], Op]] = []
    for op in body.ops:
        if Trait.WRITES in op.traits:
            parts.append((list(before), op))
        if op.results:
            before.append(op)
    return parts


def _inside(op: Op) -> list[Op]:
    return [o for block in op.blocks for o in block.walk()]


def _counts(w: Writer, op: Grid) -> list[Number]:
    """How many tiles there are along each dimension."""
    counts: list[Number] = []
    for dim, tile, size in zip(op.dims, op.tiles, op.sizes, strict=True):
        if tile is None:
            raise TileError(
                f"cpu: the tile size `{size}` is not chosen", hint="run the pass `tile` first"
            )
        counts.append(w.f.divided(w.f.plus(w.extent(dim), tile - 1), tile)[0])
    return counts


def _chunks(w: Writer, op: Grid) -> Number:
    """How many tiles there are."""
    n: Number = 1
    for count in _counts(w, op):
        n = w.f.times(n, count)
    return n


def _spans(walker: Walker, op: Grid, chunk: V) -> list[Number]:
    """Bind the spans of a chunk, the last dimension fastest; how many there are along each."""
    f, rest, counts = walker.w.f, chunk, _counts(walker.w, op)
    for i in range(len(counts) - 1, -1, -1):
        at: Number = rest
        if counts[i] == 1:
            at = 0
        elif i:
            at = f.binary("urem", rest, f.number(counts[i]))
            rest = f.binary("udiv", rest, f.number(counts[i]))
        tile = op.tiles[i]
        assert tile is not None
        start = f.times(at, tile)
        extent = walker.w.extent(op.dims[i])
        walker.env[op.body.params[i]] = walker.span(op.dims[i], op.sizes[i], tile, start, extent)
    return counts
