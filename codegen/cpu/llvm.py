"""A small vector level, printed as LLVM IR: straight-line SSA on vectors, counted loops, pointers.

Every value has an element type (`float`, `i32`, ...) and a number of lanes; one lane is a scalar.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class V:
    """One SSA value or constant: its element type, its lanes and its text."""

    type: str
    lanes: int
    text: str

    @property
    def spelled(self) -> str:
        """The type as LLVM writes it."""
        return spell(self.type, self.lanes)


Number = int | V  # an i64 that may be known


def spell(type: str, lanes: int) -> str:
    """`<16 x float>`, or `float` for one lane."""
    return type if lanes == 1 else f"<{lanes} x {type}>"


def constant(type: str, value: float | int, lanes: int = 1) -> V:
    """A number in every lane."""
    if type in ("float", "double"):
        single = struct.unpack("<f", struct.pack("<f", value))[0] if type == "float" else value
        text = f"0x{struct.unpack('<Q', struct.pack('<d', single))[0]:016X}"
    elif type == "i1":
        text = "true" if value else "false"
    else:
        text = str(int(value))
    return V(type, lanes, text if lanes == 1 else f"splat ({type} {text})")


def vector(type: str, values: Sequence[float]) -> V:
    """A constant vector."""
    return V(
        type, len(values), f"<{', '.join(f'{type} {constant(type, v).text}' for v in values)}>"
    )


class Function:
    """One function being written, for a processor that has some features."""

    def __init__(
        self, name: str, params: str, declared: set[str], features: frozenset[str] = frozenset()
    ) -> None:
        self.name, self.params, self.declared, self.features = name, params, declared, features
        self.lines: list[str] = []
        self.count = 0
        self.label = self.region = "entry"

    def text(self, attributes: str) -> str:
        """The definition."""
        body = "\n".join(self.lines)
        head = f"define void @{self.name}({self.params}) {attributes}"
        return f"{head} {{\nentry:\n{body}\n  ret void\n}}\n"

    def emit(self, line: str) -> None:
        """One instruction without a result."""
        self.lines.append(f"  {line}")

    def fresh(self) -> str:
        """A name that nothing else has."""
        self.count += 1
        return f"%v{self.count}"

    def op(self, type: str, lanes: int, text: str) -> V:
        """One instruction with a result."""
        name = self.fresh()
        self.emit(f"{name} = {text}")
        return V(type, lanes, name)

    def binary(self, op: str, a: V, b: V) -> V:
        """`add`, `fmul`, `and`, ..."""
        return self.op(a.type, a.lanes, f"{op} {a.spelled} {a.text}, {b.text}")

    def compare(self, op: str, a: V, b: V) -> V:
        """`icmp slt`, `fcmp olt`, ... as i1."""
        return self.op("i1", a.lanes, f"{op} {a.spelled} {a.text}, {b.text}")

    def select(self, c: V, a: V, b: V) -> V:
        """a where c, else b."""
        sides = f"{a.spelled} {a.text}, {b.spelled} {b.text}"
        return self.op(a.type, a.lanes, f"select {c.spelled} {c.text}, {sides}")

    def negative(self, a: V) -> V:
        """-a of floats."""
        return self.op(a.type, a.lanes, f"fneg {a.spelled} {a.text}")

    def convert(self, op: str, a: V, type: str) -> V:
        """`sext`, `fptrunc`, `bitcast`, ... lane by lane."""
        if a.type == type:
            return a
        return self.op(type, a.lanes, f"{op} {a.spelled} {a.text} to {spell(type, a.lanes)}")

    def recast(self, a: V, type: str, lanes: int) -> V:
        """The same bits as other lanes."""
        return self.op(type, lanes, f"bitcast {a.spelled} {a.text} to {spell(type, lanes)}")

    def call(self, name: str, type: str, lanes: int, *args: V) -> V:
        """A function or intrinsic of that name."""
        self.declared.add(
            f"declare {spell(type, lanes)} @{name}({', '.join(a.spelled for a in args)})"
        )
        given = ", ".join(f"{a.spelled} {a.text}" for a in args)
        return self.op(type, lanes, f"call {spell(type, lanes)} @{name}({given})")

    def gather(self, type: str, base: V, offsets: V, mask: V) -> V:
        """Elements of 32 bits at byte offsets from an address; 0 where not in the mask."""
        n = offsets.lanes
        text = f"getelementptr i8, ptr {base.text}, {offsets.spelled} {offsets.text}"
        places = self.op("ptr", n, text)
        name = f"llvm.masked.gather.v{n}{'f32' if type == 'float' else type}.v{n}p0"
        one = V("i32", 1, "1")  # the alignment
        return self.call(name, type, n, places, one, mask, constant(type, 0, n))

    def masked(self, type: str, lanes: int, at: V, mask: V) -> V:
        """Consecutive elements from memory where the mask says so, else 0, without reading."""
        one = V("i32", 1, "1")  # the alignment
        name = f"llvm.masked.load.v{lanes}{type}.p0"
        return self.call(name, type, lanes, at, one, mask, constant(type, 0, lanes))

    def intrinsic(self, name: str, *args: V) -> V:
        """`llvm.NAME.v16f32`: an intrinsic overloaded on its first operand."""
        a = args[0]
        short = {"float": "f32", "double": "f64"}.get(a.type, a.type)
        suffix = short if a.lanes == 1 else f"v{a.lanes}{short}"
        return self.call(f"llvm.{name}.{suffix}", a.type, a.lanes, *args)

    def splat(self, a: V, lanes: int) -> V:
        """A scalar in every lane."""
        if lanes == 1 or a.lanes == lanes:
            return a
        if not a.text.startswith("%"):
            return V(a.type, lanes, f"splat ({a.type} {a.text})")
        one = self.op(
            a.type, lanes, f"insertelement {spell(a.type, lanes)} poison, {a.type} {a.text}, i32 0"
        )
        return self.shuffle(one, one, [0] * lanes)

    def shuffle(self, a: V, b: V, order: Sequence[int]) -> V:
        """Lanes of a followed by b, by number."""
        mask = ", ".join(f"i32 {i}" for i in order)
        n = len(order)
        return self.op(
            a.type,
            n,
            f"shufflevector {a.spelled} {a.text}, {b.spelled} {b.text}, <{n} x i32> <{mask}>",
        )

    def parts(self, a: V, lanes: int) -> list[V]:
        """A vector as shorter ones, in order."""
        if a.lanes == lanes:
            return [a]
        return [self.shuffle(a, a, range(i, i + lanes)) for i in range(0, a.lanes, lanes)]

    def joined(self, parts: Sequence[V]) -> V:
        """Vectors as one, in order: as many as a power of two."""
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self.shuffle(a, b, range(2 * a.lanes)) for a, b in pairs]
        return parts[0]

    def lane(self, a: V, i: int) -> V:
        """One lane as a scalar."""
        return (
            a
            if a.lanes == 1
            else self.op(a.type, 1, f"extractelement {a.spelled} {a.text}, i32 {i}")
        )

    def insert(self, a: V, x: V, i: int) -> V:
        """a with lane i replaced."""
        return self.op(
            a.type, a.lanes, f"insertelement {a.spelled} {a.text}, {x.type} {x.text}, i32 {i}"
        )

    def pointer(self, base: V, offset: Number) -> V:
        """base plus that many bytes."""
        if isinstance(offset, int):
            if offset == 0:
                return base
            offset = constant("i64", offset)
        return self.op("ptr", 1, f"getelementptr i8, ptr {base.text}, i64 {offset.text}")

    def load(self, type: str, lanes: int, at: V, align: int = 1) -> V:
        """Consecutive elements from memory."""
        return self.op(type, lanes, f"load {spell(type, lanes)}, ptr {at.text}, align {align}")

    def store(self, a: V, at: V, align: int = 1) -> None:
        """Consecutive elements to memory."""
        self.emit(f"store {a.spelled} {a.text}, ptr {at.text}, align {align}")

    def store_past(self, a: V, at: V, size: int) -> None:
        """A vector of that many bytes to memory past the caches where it is aligned to them."""
        self.declared.add("!0 = !{i32 1}")
        address = self.op("i64", 1, f"ptrtoint ptr {at.text} to i64")
        low = self.binary("and", address, constant("i64", size - 1))
        yes, no, done = self.labels("aligned", "odd", "stored")
        self.branch(self.compare("icmp eq", low, constant("i64", 0)), yes, no)
        self.place(yes)
        to = f"store {a.spelled} {a.text}, ptr {at.text}"
        self.emit(f"{to}, align {size}, !nontemporal !0")
        self.emit(f"br label %{done}")
        self.place(no)
        self.emit(f"{to}, align 1")
        self.emit(f"br label %{done}")
        self.place(done)

    def prefetch(self, at: V, cache: int = 1) -> None:
        """Ask for a line that will be read, into the nearest cache or the second one."""
        self.declared.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        place = 4 - cache  # 3: the nearest
        self.emit(f"call void @llvm.prefetch.p0(ptr {at.text}, i32 0, i32 {place}, i32 1)")

    def keep_order(self) -> None:
        """What reads memory stays on its side of this point: a scheduler that may move many loads
        ahead of what uses them needs more registers than there are."""
        self.emit('call void asm sideeffect "", "~{memory}"()')

    # -- numbers: i64 arithmetic folded where it is known --

    def number(self, n: Number) -> V:
        """An i64 as a value."""
        return constant("i64", n) if isinstance(n, int) else n

    def narrow(self, n: Number, lanes: int) -> V:
        """An i64 below 2**31 as an i32 in every lane."""
        if isinstance(n, int):
            return constant("i32", n, lanes)
        return self.splat(self.convert("trunc", n, "i32"), lanes)

    def plus(self, a: Number, b: Number) -> Number:
        """a + b."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0 or b == 0:
            return b if a == 0 else a
        return self.binary("add", self.number(a), self.number(b))

    def times(self, a: Number, b: Number) -> Number:
        """a * b."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if 0 in (a, b):
            return 0
        if a == 1 or b == 1:
            return b if a == 1 else a
        return self.binary("mul", self.number(a), self.number(b))

    def divided(self, a: Number, by: int) -> tuple[Number, Number]:
        """a // by and a % by, for a >= 0."""
        if isinstance(a, int) or by == 1:
            return (a // by, a % by) if isinstance(a, int) else (a, 0)
        if by & by - 1:
            n = constant("i64", by)
            return self.binary("udiv", a, n), self.binary("urem", a, n)
        away, mask = constant("i64", by.bit_length() - 1), constant("i64", by - 1)
        return self.binary("lshr", a, away), self.binary("and", a, mask)

    def least(self, a: Number, b: Number) -> Number:
        """min(a, b)."""
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return self.intrinsic("smin", self.number(a), self.number(b))

    # -- control --

    def branch(self, condition: V, yes: str, no: str) -> None:
        """Go to one of two labels."""
        self.emit(f"br i1 {condition.text}, label %{yes}, label %{no}")

    def unless(self, rare: V, usual: V, other: Callable[[], V]) -> V:
        """`usual`; where any lane of a condition holds, which is rare, other() instead, in code out
        of the way."""
        self.declared.add('!1 = !{!"branch_weights", i32 1, i32 10000}')
        bits = self.recast(rare, f"i{rare.lanes}", 1) if rare.lanes > 1 else rare
        found = self.compare("icmp ne", bits, constant(bits.type, 0))
        yes, done = self.labels("rare", "usual")
        before, region = self.label, self.region
        self.emit(f"br i1 {found.text}, label %{yes}, label %{done}, !prof !1")
        self.place(yes)
        instead = other()
        after = self.label
        self.emit(f"br label %{done}")
        self.place(done)
        self.region = region
        ways = f"[{usual.text}, %{before}], [{instead.text}, %{after}]"
        return self.op(usual.type, usual.lanes, f"phi {usual.spelled} {ways}")

    def place(self, label: str) -> None:
        """Begin the block of that label. It is a region of its own, unless who places it says that
        every way to it leads through another one."""
        self.lines.append(f"{label}:")
        self.label = self.region = label

    def labels(self, *names: str) -> list[str]:
        """Labels that nothing else has."""
        self.count += 1
        return [f"{n}{self.count}" for n in names]

    def loop(self, start: Number, stop: Number, step: int, body: Callable[[V], None]) -> None:
        """body(i) for i in range(start, stop, step), step > 0."""

        def once(i: V, _: list[V]) -> list[V]:
            body(i)
            return []

        self.carry(start, stop, step, [], once)

    def blocks(self, n: Number, most: int, body: Callable[[Number, int], None],
               exact: bool = False) -> None:  # fmt: skip
        """body(start, size) over range(n), `most` at a time at most: as even as they may be, for
        what is done with few at a time waits for itself. If n is not known that takes code for all
        sizes; if not `exact`, it is `most` at a time and then what is left in powers of two."""
        if isinstance(n, int):
            size, more = divmod(n, max(1, -(-n // most)))
            whole = more * (size + 1)
            if more:
                self.loop(0, whole, size + 1, lambda i: body(i, size + 1))
            if size:
                self.loop(whole, n, size, lambda i: body(i, size))
            return
        if exact:
            self._even_blocks(n, most, body)
            return
        rest = self.number(self.divided(n, most)[1])
        start = self.binary("sub", n, rest)
        self.loop(0, start, most, lambda i: body(i, most))
        size = 1 << (most - 1).bit_length() >> 1
        while size:
            some = self.binary("and", rest, constant("i64", size))
            stop = self.binary("add", start, some)
            self.loop(start, stop, size, lambda i, s=size: body(i, s))
            start, size = stop, size // 2

    def _even_blocks(self, n: V, most: int, body: Callable[[Number, int], None]) -> None:
        zero, one = constant("i64", 0), constant("i64", 1)
        count = self.number(self.divided(self.plus(n, most - 1), most)[0])
        count = self.intrinsic("umax", count, one)
        least, more = self.binary("udiv", n, count), self.binary("urem", n, count)
        whole = self.binary("mul", more, self.binary("add", least, one))
        for size in range(most, 0, -1):
            last = self.compare("icmp eq", least, constant("i64", size))
            first = self.compare("icmp eq", least, constant("i64", size - 1))
            start = self.select(last, whole, zero)
            stop = self.select(last, n, self.select(first, whole, zero))
            self.loop(start, stop, size, lambda i, s=size: body(i, s))

    def carry(self, start: Number, stop: Number, step: int, init: Sequence[V],
              body: Callable[[V, list[V]], list[V]]) -> list[V]:  # fmt: skip
        """carried = body(i, carried) for i in range(start, stop, step); the last carried values."""
        head, inside, done = self.labels("head", "body", "done")
        before = self.label
        self.emit(f"br label %{head}")
        self.place(head)
        i = V("i64", 1, self.fresh())
        phis = [V(v.type, v.lanes, self.fresh()) for v in init]
        at = len(self.lines)
        going = self.compare("icmp slt", i, self.number(stop))
        self.branch(going, inside, done)
        self.place(inside)
        out = body(i, phis)
        after = self.binary("add", i, constant("i64", step))
        incoming = [(i, self.number(start), after), *zip(phis, init, out, strict=True)]
        self.lines[at:at] = [
            f"  {p.text} = phi {p.spelled} [{a.text}, %{before}], [{z.text}, %{self.label}]"
            for p, a, z in incoming
        ]
        self.emit(f"br label %{head}")
        self.place(done)
        return phis
