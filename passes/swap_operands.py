"""Products of few rows, computed transposed: c.T = b.T @ a.T.

Matrix instructions take many rows (64 for `wgmma`) but as few as 8 columns. With few rows of x the
weights [N, K] are the better first operand, and they are read as they lie in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, substitute
from tilec.ir.ops import control, memory, reduce, shape
from tilec.ir.ops.scaled import ScaledDot
from tilec.ir.remark import Remark
from tilec.passes.parts import tile
from tilec.passes.pipeline import register

TURN = (1, 0)
WHEN = ("small", "decoded", "always")
Loop = control.For | control.Count
Product = reduce.Dot | ScaledDot


@register("swap-operands")
def swap_operands(func: Func, *, when: str = "small") -> Func:
    """Compute products transposed, carry what loops add them to so, and transpose it once behind.

    `when` is `small` (products with fewer rows than columns), `decoded` (these, and products whose
    second operand is computed: the first one's may stay in registers) or `always` (all but those
    whose result is only read transposed). Before: tile sizes are chosen. After: the same, with
    transposes that `canonicalize` drops where nobody reads them.
    """
    if when not in WHEN:
        raise TileError(f"swap-operands: when is {when!r}, expected {', '.join(WHEN)}")
    uses = _Uses(func)
    sizes = _sizes(func)
    dots = [op for op in func.walk() if isinstance(op, Product)]
    if when == "always":
        chosen = [op for op in dots if not uses.transposed(op.result)]
    else:
        decoded = when == "decoded"
        chosen = [
            op
            for op in dots
            if _small(op, sizes) or (decoded and uses.computed(op.b) > uses.computed(op.a))
        ]
    done = swapped(func, set(chosen))
    return done.replaced(done.body, *(_remark(op, sizes) for op in chosen))


def swapped(func: Func, products: Set[Product]) -> Func:
    """A function with some products computed transposed."""
    made: dict[Value, Op] = {v: op for op in func.walk() for v in op.results}
    return func.replaced(_Swapping(made, products).block(func.body))


def _sizes(func: Func) -> dict[str, int]:
    """The most that each size symbol is."""
    found: dict[str, int] = {}
    for op in func.walk():
        match op:
            case control.Grid():
                axes = zip(op.dims, op.sizes, op.tiles, strict=True)
            case control.For():
                axes = iter([(op.dim, op.size, op.tile)])
            case _:
                continue
        for dim, size, t in axes:
            if t is not None:
                found[str(size)] = min(dim, t) if isinstance(dim, int) else t
    return found


def _sides(op: Product, sizes: dict[str, int]) -> tuple[Extent, Extent]:
    rows, columns = (substitute(e, sizes) for e in tile(op.acc).shape)
    return rows, columns


def _small(op: Product, sizes: dict[str, int]) -> bool:
    rows, columns = _sides(op, sizes)
    return isinstance(rows, int) and isinstance(columns, int) and rows < columns


def _remark(op: Product, sizes: dict[str, int]) -> Remark:
    rows, columns = _sides(op, sizes)
    message = f"the product of {rows} x {columns} is computed as {columns} x {rows}"
    return Remark("swap-operands", message, op.loc)


class _Uses:
    """What makes the values of a function, and what reads them."""

    def __init__(self, func: Func) -> None:
        self.made: dict[Value, Op] = {v: op for op in func.walk() for v in op.results}
        self.readers: dict[Value, list[Op]] = defaultdict(list)
        self.next: dict[Value, list[Value]] = defaultdict(list)  # what loops make of it
        self.ended: set[Value] = set()  # results of blocks that are no loop's
        for op in func.walk():
            for v in op.operands:
                self.readers[v].append(op)
            if isinstance(op, Loop):
                carried = zip(op.init, op.body.params[1:], op.body.results, op.results, strict=True)
                for init, param, result, out in carried:
                    self.next[init] += [param, out]
                    self.next[result] += [param, out]
            else:
                self.ended |= {v for block in op.blocks for v in block.results}

    def computed(self, v: Value) -> bool:
        """Whether an operand is made of what is loaded, not as it lies in memory or turned."""
        op = self.made.get(v)
        op = self.made.get(op.a) if isinstance(op, shape.Transpose) else op
        return not isinstance(op, memory.Load)

    def transposed(self, v: Value) -> bool:
        """Whether a product's result is only added to and read transposed."""
        seen, wanted = set[Value](), [v]
        while wanted:
            v = wanted.pop()
            if v in seen:
                continue
            seen.add(v)
            if v in self.ended:
                return False
            for op in self.readers[v]:
                if isinstance(op, Product) and op.acc is v and v not in (op.a, op.b):
                    wanted.append(op.result)
                elif not isinstance(op, Loop) and not _turns(op):
                    return False
            wanted += self.next[v]
        return True


def _turns(op: Op | None) -> bool:
    return isinstance(op, shape.Transpose) and op.order == TURN


class _Swapping:
    """The rewriting of one function."""

    def __init__(self, made: dict[Value, Op], chosen: Set[Product]) -> None:
        self.made, self.chosen = made, chosen
        self.to: dict[Value, Value] = {}
        self.turned: dict[Value, Value] = {}  # the transposes of values that are held so
        self.known: dict[Value, bool] = {}
        self.turning: set[Op] = set()  # elementwise ops that are computed transposed

    def block(self, block: Block) -> Block:
        """A block with the products that were chosen swapped."""
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            self._op(op, b)
        return Block(block.params, tuple(b.ops), tuple(self.to.get(v, v) for v in block.results))

    def _op(self, op: Op, b: Builder) -> None:
        if isinstance(op, Product) and op in self.chosen:
            self._held(op.result, b(self._product(op, b)), b)
            return
        if isinstance(op, Loop):
            self._loop(op, b)
            return
        if op in self.turning:
            parts = {v: self.turned.get(v) or self._transpose(v, b) for v in op.operands}
            self._held(op.result, b(op.rebuilt(parts)), b)
            return
        b.copy(op, self.to, self.block)

    def _product(self, op: Product, b: Builder) -> Op:
        """The transposed product: each operand's scales go with it."""
        left, right = (self._transpose(v, b) for v in (op.b, op.a))
        acc = self.turned.get(op.acc) or self._transpose(op.acc, b)
        if isinstance(op, ScaledDot):
            scale, row_scale = (self.to.get(v, v) for v in (op.b_scale, op.a_scale))
            return ScaledDot(left, scale, right, row_scale, acc)
        scales = (v and self.to.get(v, v) for v in (op.row_scale, op.scale))
        return reduce.Dot(left, right, acc, *scales)

    def _transpose(self, v: Value, b: Builder) -> Value:
        """The transpose of an old value."""
        op = self.made.get(v)
        match op:
            case shape.Transpose() if _turns(op):
                return self.to.get(op.a, op.a)
            case shape.Full():
                return Builder(b.ops, op.loc)(shape.Full(op.shape[::-1], op.value, op.dtype))
            case shape.Broadcast() if tile(op.a).rank:
                own = (1, *tile(op.a).shape)[-2:]
                column = b(shape.Reshape(self.to.get(op.a, op.a), own[::-1]))
                return b(shape.Broadcast(column, op.shape[::-1]))
            case _:
                return b(shape.Transpose(self.to.get(v, v), TURN))

    def _held(self, v: Value, turned: Value, b: Builder) -> None:
        """An old value is held transposed from here on."""
        self.turned[v] = turned
        self.to[v] = b(shape.Transpose(turned, TURN))

    def _swapped(self, v: Value) -> bool:
        """Whether a loop should carry a value transposed: it is made by a product that is swapped,
        by a loop over such, or elementwise of these, which is then `turning` too."""
        if v in self.to:  # which has been written
            return v in self.turned
        if v not in self.known:
            op = self.made.get(v)
            if isinstance(op, Loop):
                self.known[v] = self._swapped(op.body.results[op.results.index(v)])
            elif op is not None and Trait.ELEMENTWISE in op.traits:
                self.known[v] = any([self._swapped(x) for x in op.operands])  # all are asked
                self.turning |= {op} if self.known[v] else set()
            else:
                self.known[v] = op in self.chosen
        return self.known[v]

    def _loop(self, op: Loop, b: Builder) -> None:
        """A loop that carries what swapped products are added to transposed."""
        held = [self._swapped(v) for v in op.body.results]
        init = tuple(self.turned.get(v) or self._transpose(v, b) if t else self.to.get(v, v)
                     for v, t in zip(op.init, held, strict=True))  # fmt: skip
        first, *carried = op.body.params
        params, head = [first], Builder(loc=op.loc)
        for p, t, v in zip(carried, held, init, strict=True):
            params.append(Value(v.type, p.hint) if t else p)
            if t:
                self._held(p, params[-1], head)
        body = self.block(op.body)
        results = tuple(self.turned[v] if t else self.to.get(v, v)
                        for v, t in zip(op.body.results, held, strict=True))  # fmt: skip
        changed: dict[str, Any] = {"init": init}
        changed["body"] = Block(tuple(params), (*head.ops, *body.ops), results)
        new = b.add(op.rebuilt(self.to, **changed))
        for v, out, t in zip(op.results, new.results, held, strict=True):
            if t:
                self._held(v, out, b)
            else:
                self.to[v] = out
