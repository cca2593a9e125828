"""Scans: elements, then blocks of elements of twice as many each time, by registers, lanes, warps.

A block is elements along the axis that one digit of the layout counts. Each element is combined
with the total of the block before its own, each total with that of the block beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tilec.codegen.cuda import pointwise
from tilec.codegen.cuda.exchange import Parked
from tilec.codegen.cuda.printer import Printer, plus, times
from tilec.codegen.cuda.tiles import Values, tile
from tilec.ir.dtype import DType
from tilec.ir.layout.banks import WARP
from tilec.ir.layout.digits import Digits
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops.scan import Scan


def emit(values: Values, op: Scan, name: str) -> None:
    """Print a scan into registers `name`."""
    p, layout = values.p, values.layouts[op.a]
    rest = [place for _, place in _bits(layout.local_digits, None)]
    own, totals, others = (p.fresh(n) for n in ("own", "totals", "others"))
    count = layout.locals
    blocks = _Blocks(p, op, tile(op.a).dtype, count, own, totals, others, rest)
    p.line(f"{blocks.carrier} {own}[{count}], {totals}[{count}], {others}[{count}];")
    p.unrolled("i", count)
    p.line(f"{own}[i] = {totals}[i] = {values.names[op.a]}[i];")
    p.close()
    steps = sorted(_steps(layout, op.axis))
    for n, (_, place, among_threads) in enumerate(steps, start=1):
        act = blocks.across if among_threads else blocks.within
        act(place, n < len(steps))
    p.line(f"fill({name}, [&](u32 i) {{ return {own}[i]; }});")


def _steps(layout: RegisterLayout, axis: int) -> Iterator[tuple[int, int, bool]]:
    """The powers of two of which coordinates along an axis are sums, each with the place of its bit
    in the number of an element or of a thread."""
    for digits, threads in ((layout.local_digits, False), (layout.thread_digits, True)):
        for stride, place in _bits(digits, axis):
            yield stride, place, threads


def _bits(digits: Digits, axis: int | None) -> Iterator[tuple[int, int]]:
    """Stride and place of each bit of the digits along an axis, or of all."""
    place = 1
    for d in reversed(digits):
        if axis is None or d.axis == axis:
            for b in range(d.size.bit_length() - 1):
                yield d.stride << b, place << b
        place *= d.size


@dataclass
class _Blocks:
    """A thread's elements, and the totals of the blocks that they are in.

    `rest` are the places of the bits of an element's number that tell its block from the others.
    """

    p: Printer
    op: Scan
    dtype: DType
    elements: int
    own: str
    totals: str
    others: str
    rest: list[int]

    @property
    def carrier(self) -> str:
        """The type of the totals."""
        return f"Number<{pointwise.cpp_type(self.dtype)}>::Carrier"

    def _put(self, to: str, a: str, b: str, where: str = "") -> None:
        text = pointwise.combined(self.op.reduction, self.dtype, a, b)
        self.p.line(f"{f'if ({where}) ' if where else ''}{to} = {text};")

    def _later(self, number: str, place: int) -> str:
        """Whether a block comes behind the one beside it in the direction of the scan."""
        bit = f"{number} % 2" if place == 1 else f"{number} / {place} % 2"
        return f"{bit} == {int(not self.op.reverse)}"

    def within(self, place: int, further: bool) -> None:
        """Blocks whose elements a thread has both; their totals where it goes on `further`."""
        p, i = self.p, self.rest.index(place)
        p.unrolled("i", self.elements)
        beside = f"{self.totals}[{_number(self.rest, f'(i ^ {place})')}]"
        self._put(f"{self.own}[i]", beside, f"{self.own}[i]", self._later("i", place))
        p.close()
        if not further:
            return
        p.unrolled("j", 1 << len(self.rest) - 1)
        at = plus(times(f"j / {1 << i}", 2 << i), f"j % {1 << i}") if i else "j * 2"
        self._put(f"{self.totals}[j]", f"{self.totals}[{at}]", f"{self.totals}[{at} + {1 << i}]")
        p.close()
        self.rest.remove(place)

    def across(self, place: int, further: bool) -> None:
        """Blocks of two threads."""
        p, count = self.p, 1 << len(self.rest)
        if place < WARP:
            p.unrolled("j", count)
            p.line(f"{self.others}[j] = exchanged({self.totals}[j], {place});")
            p.close()
        else:
            self._parked(place, count)
        p.unrolled("i", self.elements)
        beside = f"{self.others}[{_number(self.rest, 'i')}]"
        self._put(f"{self.own}[i]", beside, f"{self.own}[i]", self._later("thread", place))
        p.close()
        if further:
            p.unrolled("j", count)
            self._put(f"{self.totals}[j]", f"{self.totals}[j]", f"{self.others}[j]")
            p.close()

    def _parked(self, place: int, count: int) -> None:
        """The totals of threads of another warp, by way of shared memory."""
        p = self.p
        room = Parked((count, p.threads), 8 if self.dtype.bits == 64 else 4)
        p.barrier()
        p.unrolled("j", count)
        p.line(f"store_shared({room.address(['j', 'thread'])}, {self.totals}[j]);")
        p.close()
        p.barrier()
        p.unrolled("j", count)
        beside = room.address(["j", f"(thread ^ {place})"])
        p.line(f"{self.others}[j] = load_shared<{self.carrier}>({beside});")
        p.close()
        p.room(room.end)


def _number(places: list[int], i: str) -> str:
    """The number that the bits of another one at some places make."""
    out, done = "0", 0
    while done < len(places):
        first, n = places[done], 1
        while done + n < len(places) and places[done + n] == first << n:
            n += 1
        digit = f"{i if first == 1 else f'{i} / {first}'} % {1 << n}"
        out = plus(times(digit, 1 << done), out)
        done += n
    return out
