"""Where a product reads its operands: in place, or from a copy of all tasks or of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from tilec.codegen.cpu import bits, byte_rows, chain, digits, lanes, matrices, memory, numbers, thin
from tilec.codegen.cpu.atoms import BYTES, PAIRS, SINGLE, Atom, Rows, choose, of_bits
from tilec.codegen.cpu.bits import in_order
from tilec.codegen.cpu.chain import Link, Made
from tilec.codegen.cpu.code_rows import CodeRows, code_rows
from tilec.codegen.cpu.expanded import groups
from tilec.codegen.cpu.expansions import expansion, plain
from tilec.codegen.cpu.lanes import Stored
from tilec.codegen.cpu.llvm import Function, V, constant
from tilec.codegen.cpu.packing import pack_rows
from tilec.codegen.cpu.stream import Panel, middle, panel, scattered
from tilec.codegen.cpu.thin import Turned, write_turned
from tilec.codegen.cpu.tiles import Buffer, Coordinates, Lazy, Tensor, Writer
from tilec.ir.core import Value
from tilec.ir.dtype import Array, DType, bf16, f16, f32, i8
from tilec.ir.ops import shape
from tilec.ir.ops.memory import Load
from tilec.ir.ops.reduce import Dot
from tilec.ir.ops.sparse import Expand
from tilec.ir.stream import LANES, Records
from tilec.ir.types import Memory, Shape, Tile

Env = Mapping[Value, Lazy | Coordinates | Tensor]
_NATIVE = {PAIRS: bf16, SINGLE: f32, BYTES: i8}  # what is read as it lies
DENSE = 512  # elements of rows that lie side by side, and are read in place
SMALL = 1 << 15  # elements that one thread copies faster than others wake up
MOST = 1 << 28  # bytes of copies; beyond, each task copies what it needs
UNUSED = 4  # times the least of a class of sizes is its most


@dataclass(frozen=True)
class Copy:
    """A whole matrix as rows for an instruction, one panel a step of k.

    Panels that are turned out of a stream of codes have room for rows that fill the last vector.
    """

    tensor: Tensor
    links: tuple[Link, ...]  # what is done to its elements first
    atom: Atom
    multiple: int
    step: int
    rows: int  # of the matrix, or the most that they may be
    depth: int
    offset: int  # bytes into the shared memory

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for copies that are the same."""
        links = tuple(link.key for link in self.links)
        return self.tensor.param, links, self.atom, self.step, self.multiple

    @property
    def stride(self) -> int:
        """Bytes from one row of a panel to the next."""
        return byte_rows.stride(self.atom, -(-self.step // self.multiple) * self.multiple)

    @property
    def panels(self) -> int:
        """Steps of k."""
        return -(-self.depth // self.step)

    @property
    def size(self) -> int:
        """Bytes of all panels."""
        return self.panels * self.tall * self.stride

    @cached_property
    def values(self) -> Array | None:
        """What the codes of a stream stand for, if whole vectors of rows are read of it."""
        t = self.tensor
        if not isinstance(t.records, Records) or len(t.shape) != 2 or t.component != "codes":
            return None
        values = chain.of_codes(t.dtype, self.links)
        return values if byte_rows.turns(self.atom, t, values, self.step) else None

    @property
    def tall(self) -> int:
        """Rows of a panel."""
        return self.rows if self.values is None else -(-self.rows // LANES) * LANES

    @property
    def chunks(self) -> int:
        """Tasks that make it."""
        return 1 if self.rows * self.depth <= SMALL else self.panels


C = TypeVar("C", Copy, Turned)


@dataclass
class Copies:
    """The copies that the tasks of a kernel share, made before the part that reads them.

    Memory that the part itself writes is not copied ahead, nor is an older copy of it used again.
    """

    reserved: int = 0  # bytes before the first copy
    repeated: bool = False  # whether several tasks read the same rows
    made: list[Copy | Turned] = field(default_factory=list["Copy | Turned"])
    written: frozenset[Value] = frozenset()
    stale: set[Value] = field(default_factory=set[Value])

    @property
    def used(self) -> int:
        """Bytes of all copies."""
        return self.reserved + sum(-(-c.size // 64) * 64 for c in self.made)

    def enter(self, written: frozenset[Value]) -> None:
        """Go on to a part of the kernel that writes this memory."""
        self.stale |= {c.tensor.param for c in self.made if c.tensor.param in written}
        self.written = written

    def of(self, new: C) -> C | None:
        """The copy that is like this one, made if it pays."""
        param = new.tensor.param
        for c in self.made:
            if isinstance(c, type(new)) and c.key == new.key and param not in self.stale:
                return c
        barred = param in self.written or param in self.stale
        # What a class of sizes does not use of its memory is never touched.
        most = MOST if isinstance(new.tensor.shape[0], int) else UNUSED * MOST
        if not self.repeated or barred or self.used + new.size > most:
            return None
        self.made.append(new)
        return new


def left(w: Writer, atom: Atom, op: Dot, x: Lazy, env: Env, made: Made, copies: Copies,
         multiple: int) -> Rows:  # fmt: skip
    """The first operand's rows, k padded to a multiple."""
    if (rows := _buffered(atom, x, multiple)) is not None:
        return rows
    found = chain.chain(op.a, made)
    if found is not None and not found[1]:
        block = _block(w, atom, found[0], env, copies, multiple)
        if block is not None:
            return block
    if found is not None and len(found[0].indices) == 2:
        source, links = found
        tensor, m, k = (env[v] for v in (source.mem, *source.indices))
        if (
            isinstance(tensor, Tensor)
            and isinstance(m, Coordinates)
            and isinstance(k, Coordinates)
            # Beyond the end of a step there must be zeros, not what a longer step would read.
            and not k.stopped
        ):
            rows = None if links else _in_place(w, atom, tensor, m, k, multiple)
            rows = rows or _copied(w, copies, (tensor, links, atom, multiple), m, k)
            if rows is not None:
                return rows
    height, depth = (w.largest(d) for d in op.a.type.shape)  # type: ignore[union-attr]
    stride = byte_rows.stride(atom, -(-depth // multiple) * multiple)
    to = Rows(w.f.pointer(w.base, w.scratch.take(height * stride)), stride, atom == BYTES)
    pack_rows(w, atom, x, to, multiple)
    if to.summed:
        byte_rows.write_sums(w, to, x.shape)
    return to


def whole_numbers(w: Writer, op: Dot, right: Panel | Stored | CodeRows | None, env: Env, made: Made,
                  copies: Copies) -> digits.Whole | None:  # fmt: skip
    """The first operand as digits, if it is few rows of a matrix of bf16 that all tasks read, the
    second one is whole numbers, and that is the faster way."""
    height, depth = (w.largest(d) for d in _shape(op.a))
    suits = depth % w.lanes == 0 and _dtype(op.a) == bf16 and digits.pays(w)
    panel = digits.whole(right, height) if isinstance(right, Panel) and suits else None
    found = chain.chain(op.a, made)
    if panel is None or found is None or len(found[0].indices) != 2:
        return None
    source, links = found
    tensor, m, k = (env[v] for v in (source.mem, *source.indices))
    if not (isinstance(tensor, Tensor) and isinstance(m, Coordinates)):
        return None
    if not isinstance(k, Coordinates) or not isinstance(k.size, int) or k.stopped:
        return None
    if not isinstance(tensor.shape[1], int) or tensor.shape[1] % w.lanes:
        return None  # the last step has vectors that are not whole
    rows = _copied(w, copies, (tensor, links, digits.DIGITS, panel[0].deep), m, k)
    return None if rows is None else digits.Whole(rows, *panel)


def _buffered(atom: Atom, x: Lazy, multiple: int) -> Rows | None:
    """A tile in scratch memory that is already what the instruction reads."""
    depth = x.shape[-1]
    native = atom.pack == 1 and atom.kind == numbers.register(x.dtype)
    if x.buffer is None or not native or not isinstance(depth, int) or depth % multiple:
        return None
    return Rows(x.buffer.at, atom.bytes(x.buffer.pitch))


def as_floats(w: Writer, op: Dot) -> bool:
    """Whether a product surely reads its first operand as floats."""
    a, b, acc = (_dtype(v) for v in (op.a, op.b, op.acc))
    return choose(w, a, b, acc, w.largest(_shape(op.a)[0]), steps=True) == SINGLE


def _block(w: Writer, atom: Atom, source: Load, env: Env, copies: Copies, multiple: int
           ) -> Rows | None:  # fmt: skip
    """Whole rows of memory, one after the other, that are already what the instruction reads."""
    tensor = env[source.mem]
    assert isinstance(tensor, Tensor)
    *rows, k = (env[v] for v in source.indices)
    if tensor.dtype != _NATIVE.get(atom) or tensor.records is not None or len(tensor.shape) < 2:
        return None
    depth = tensor.shape[-1]
    if tensor.param in copies.written or not isinstance(depth, int) or depth % multiple:
        return None
    whole = isinstance(k, Coordinates) and k.size == depth <= DENSE
    return matrices.rows(w, tensor, tuple(rows), atom.bytes(depth)) if whole else None


def _in_place(w: Writer, atom: Atom, t: Tensor, m: Coordinates, k: Coordinates,
              multiple: int) -> Rows | None:  # fmt: skip
    """A few rows of memory that are already what the instruction reads."""
    native, depth = t.dtype == _NATIVE.get(atom), t.shape[1]
    if not native or not isinstance(depth, int) or _rows(w, t) > 6 or t.records is not None:
        return None
    if depth % multiple or (k.multiple % multiple and k.multiple < depth):
        return None
    stride = atom.bytes(depth)
    return Rows(w.address(t.at, (m.start, k.start), (stride, atom.bytes(1))), stride)


def _rows(w: Writer, t: Tensor) -> int:
    """The most rows that a matrix may have."""
    assert isinstance(t.param.type, Memory)
    return w.largest(t.param.type.shape[0])


def _copied(w: Writer, copies: Copies, what: tuple[Tensor, tuple[Link, ...], Atom, int],
            m: Coordinates, k: Coordinates) -> Rows | None:  # fmt: skip
    tensor, depth = what[0], what[0].shape[1]
    if not isinstance(depth, int):
        return None
    made = copies.of(Copy(*what, min(k.multiple, depth), _rows(w, tensor), depth, copies.used))
    if made is None:
        return None
    step, _ = w.f.divided(k.start, made.step)
    place = (step, m.start, 1)
    sizes = (made.tall * made.stride, made.stride, made.offset)
    return Rows(w.address(w.shared, place, sizes), made.stride, made.atom == BYTES)


def write_copy(w: Writer, c: Copy | Turned, tensor: Tensor, chunk: V) -> None:
    """The body of a task that makes a copy, or one panel of it."""
    if isinstance(c, Turned):
        write_turned(w, c, tensor, chunk)
        return
    f: Function = w.f
    rows, depth = tensor.shape[0], c.depth

    def one(step: V) -> None:
        start = f.number(f.times(step, c.step))
        rest = f.binary("sub", constant("i64", depth), start)
        size = c.step if depth % c.step == 0 else f.least(c.step, rest)
        places = (Coordinates(0, rows, 1 << 30), Coordinates(start, size, c.step))
        tile = memory.load(w, tensor, places, (rows, size))
        at = w.address(w.shared, (step, 1), (c.tall * c.stride, c.offset))
        to = Rows(at, c.stride, c.atom == BYTES)
        if c.values is None:
            pack_rows(w, c.atom, chain.run(w, c.links, tile), to, c.multiple)
        else:
            byte_rows.turned(w, tensor, c.values, places[1], to)
        if to.summed:
            byte_rows.write_sums(w, to, tile.shape)

    if c.chunks == 1:
        f.loop(0, c.panels, 1, one)
    else:
        one(chunk)


def right(w: Writer, op: Dot, env: Env, made: Made
          ) -> tuple[Atom, Panel | Stored | CodeRows | None]:  # fmt: skip
    """The instruction of a product, and the second operand if that reads it where it is stored."""
    a, b, out = (_dtype(v) for v in (op.a, op.b, op.acc))
    turned = made.get(op.b)
    x, read = env[op.b], made.get(turned.a) if isinstance(turned, shape.Transpose) else None
    assert isinstance(x, Lazy)
    steps = isinstance(read, Load) and not x.solid
    atom = choose(w, a, b, out, w.largest(_shape(op.a)[0]), steps)
    if atom.pack == 1 and f16 in (a, b):
        w.remark(op, "products of f16 are computed in f32", "bf16 operands, at twice the rate")
    stored = _in_lanes(w, op, env, made) if atom.kind == "float" else None
    lying = stored or code_rows(w, op, env, made, atom)
    if lying is not None:
        return atom, lying
    found = _streamed(w, op, env, made, atom)
    return (in_order(found) if found and of_bits(atom) else atom), found


def _dtype(v: Value) -> DType:
    assert isinstance(v.type, Tile)
    return v.type.dtype


def _in_lanes(w: Writer, op: Dot, env: Env, made: Made) -> Stored | None:
    """The second operand in the order of lanes, if it is w.T and stored so."""
    turned = made.get(op.b)
    if not isinstance(turned, shape.Transpose):
        return None
    root = chain.origin(turned.a, made)
    if root is not None and isinstance(root[0], Expand):
        found = expansion(root[0], env)
        if found.missing or not plain(root[0], root[1]):
            return None
        return lanes.step(w, *found.tensors, *found.places)
    source = made.get(turned.a)
    if not isinstance(source, Load) or len(source.indices) != 2:
        return None
    tensor, n, k = (env[v] for v in (source.mem, *source.indices))
    if not (isinstance(tensor, Tensor) and isinstance(n, Coordinates)):
        return None
    return lanes.slab(w, tensor, n, k) if isinstance(k, Coordinates) else None


Thin = tuple[Turned, Lazy, Coordinates]


def thin_source(w: Writer, op: Dot, b: Lazy, env: Env, made: Made, copies: Copies) -> Thin | None:
    """What a product with one column gathers as its other operand, if it does."""
    deep = _shape(op.a)[1]
    if not thin.suits(w, op, b) or not isinstance(deep, int):
        return None
    return thin.source(w, op, env, made, copies.used)


def thin_product(w: Writer, op: Dot, sides: tuple[Lazy, Lazy], found: Thin, copies: Copies,
                 to: Buffer) -> None:  # fmt: skip
    """Write a product with one column whose other operand is gathered."""
    (a, b), (new, k, span), (rows, deep) = sides, found, _shape(op.a)
    assert isinstance(deep, int)
    copy = copies.of(new) if w.largest(rows) > thin.FEW else None
    if copy is None:
        thin.gathered(w, a, b, deep, to)
    else:
        thin.in_rows(w, copy, k, b, (span.start, a.shape[0]), deep, to)


def _shape(v: Value) -> Shape:
    assert isinstance(v.type, Tile)
    return v.type.shape


def _streamed(w: Writer, op: Dot, env: Env, made: Made, atom: Atom) -> Panel | None:
    """The second operand in a stream of codes, if it is one: w.T of what codes stand for."""
    turned = made.get(op.b)
    streams = atom.kind == "float" or atom == BYTES or of_bits(atom)
    if not streams or not isinstance(turned, shape.Transpose):
        return None
    found = chain.chain(turned.a, made)
    if found is None:
        return groups(w, turned.a, env, made) if atom == BYTES else None
    codes, links = found
    tensor = env[codes.mem]
    if not isinstance(tensor, Tensor) or not tensor.component:
        return None
    at = matrices.matrix(w, tensor, tuple(env[v] for v in codes.indices))
    if at is None:
        return None
    if not isinstance(tensor.records, Records):
        missing = "a stream, the layout of CPU code: relayout(Stream())"
    else:
        n, k = at
        values = chain.tabulated(codes, links)
        missing = scattered(tensor.records, n, k) or _unread(atom, tensor.records, values)
        if not missing:
            return panel(w, tensor, n, k, values)
    w.remark(op, f"the codes of `{tensor.param.hint}` are read one by one", missing)
    return None


def ones(v: Value, made: Made) -> bool:
    """Whether every element of a tile is surely 1."""
    op = made.get(v)
    return isinstance(op, shape.Full) and op.value == 1


def _unread(atom: Atom, records: Records, values: Array) -> str:
    """What would make codes with these values readable as words of a stream, or nothing."""
    assert records.codes is not None
    if of_bits(atom):
        return "" if bits.plane_of(records, values) else "bits of one plane of the stream"
    return "" if middle(records.codes, values) is not None else "codes less a number"
