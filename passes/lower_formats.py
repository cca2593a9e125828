"""Scaled operands become their components: codes, scales and zeros, with the arithmetic to decode.

Where a product reads a scaled operand whose scales are constant over the step of its k loop, the
codes take part in it as whole numbers and the scale multiplies the accumulator instead.
"""

from __future__ import annotations

import numpy as np

from tilec.ir.bits import from_raw
from tilec.ir.core import Block, Builder, Func, Op, Value, rebuild
from tilec.ir.dtype import DType, bf16, e4m3, e5m2, f16, f32, i8, i16, u8
from tilec.ir.dynamic import Dynamic
from tilec.ir.format import Dense, Format
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.remark import Remark
from tilec.ir.scaled import ADDED, Scaled
from tilec.ir.types import Memory, Shape, Span
from tilec.passes.parts import as_f32, tile
from tilec.passes.pipeline import register
from tilec.passes.rounded import Rounded
from tilec.passes.scaled import Components, Decoded, Elements, spread


@register("lower-formats")
def lower_formats(func: Func) -> Func:
    """Replace each scaled parameter `w` by its components `w.codes`, `w.scale`, ..., decode loads.

    Before: tile sizes are chosen. After: every memory is dense. The value of an element is the
    same to the bit, but for products: there sum_k a * ((q - z) * s) becomes s * sum_k a * (q - mid)
    plus s * (mid - z) * sum_k a, which is exact arithmetic rounded elsewhere. It stays within the
    error of a sum in the accumulator's dtype over the products |a| * |q - mid| * |s| and
    |a| * |mid - z| * |s|.
    """
    rounded = {p: Rounded(p, f) for p in func.params if isinstance(f := _format(p), Dynamic)}
    parameters = {p: _components(p) for p in func.params if isinstance(_format(p), Scaled)}
    parameters |= {p: r.components for p, r in rounded.items()}
    if not parameters:
        return func
    lowering = _Lowering(parameters, _tiles(func))
    body = rebuild(func.body, {}, lowering.change)
    params: list[Value] = []
    for p in func.params:
        if p in rounded:
            params.append(rounded[p].dense)
        else:
            params += parameters[p].values() if p in parameters else [p]
    params += [v for r in rounded.values() for v in r.components.values()]
    grids = [r.grid() for r in rounded.values()]
    whole = Block(tuple(params), (*grids, *body.ops), body.results)
    return func.replaced(whole, *lowering.remarks)


def _format(v: Value) -> Format | None:
    return v.type.format if isinstance(v.type, Memory) else None


def _scaled(v: Value) -> Scaled | None:
    """The format of what a parameter has codes of."""
    format = _format(v)
    if isinstance(format, Dynamic):
        return format.inner
    return format if isinstance(format, Scaled) else None


def _components(p: Value) -> Components:
    assert isinstance(p.type, Memory)
    return {
        c.name: Value(Memory(c.shape, Dense(c.dtype)), f"{p.hint}.{c.name}")
        for c in p.type.format.components(p.type.shape)
    }


def _tiles(func: Func) -> dict[Value, int | None]:
    """The tile size of every span that a grid or loop makes."""
    found: dict[Value, int | None] = {}
    for op in func.walk():
        match op:
            case control.Grid():
                found.update(zip(op.body.params, op.tiles, strict=True))
            case control.For():
                found[op.body.params[0]] = op.tile
            case _:
                pass
    return found


class _Lowering(Elements):
    """The rewriting of one function; `change` is the rule for `rebuild`."""

    def __init__(self, parameters: dict[Value, Components], tiles: dict[Value, int | None]) -> None:
        super().__init__(parameters, tiles)
        self.decoded: dict[Value, Decoded] = {}
        self.made: dict[Value, Op] = {}
        self.remarks: list[Remark] = []

    def change(self, op: Op, to: dict[Value, Value], b: Builder) -> bool:
        """Replace loads of scaled memory, and products of what they load."""
        format = _scaled(op.mem) if isinstance(op, memory.Load) else None
        if isinstance(op, memory.Load) and format is not None:
            codes = b(memory.Load(self.parameters[op.mem]["codes"], op.indices))
            load = Decoded(op.mem, format, op.indices, codes)
            to[op.result] = self.values(load, b)
            self.decoded[to[op.result]] = load
            return True
        if isinstance(op, reduce.Dot):
            hoisted = self._product(op, b)
            if hoisted is not None:
                to[op.result] = hoisted
                return True
        self.made.update(dict.fromkeys(op.results, op))
        return False

    def _product(self, op: reduce.Dot, b: Builder) -> Value | None:
        """The product with whole codes, the scale on the accumulator; None where it can't be."""
        load = self._operand(op)
        if load is None:
            return None
        what = f"`{load.mem.hint}` ({load.format})"
        problem = self._obstacle(op, load)
        if problem:
            self._remark(op, f"{what} is decoded element by element", problem)
            return None
        a, row_scale, dtype = self._beside(op, load.format, b)
        codes = _centred_codes(load, dtype, b)
        scale = self._along_axis(load, "scale", tile(op.acc).shape[1:], b)
        turned = b(shape.Transpose(codes, (1, 0)))
        out = b(reduce.Dot(a, turned, op.acc, scale, row_scale))
        self._remark(op, f"{what}: codes in {dtype}, the scale on the accumulator")
        return self._corrected(op, load, out, scale, b)

    def _beside(self, op: reduce.Dot, format: Scaled,
                b: Builder) -> tuple[Value, Value | None, DType]:  # fmt: skip
        """The first operand, the scale of its rows if it has one, and the dtype of the codes."""
        byte, t = _byte(format), tile(op.a).dtype
        load = self.decoded.get(op.a)
        if load is None or not self._has_row_scale(load):
            if byte is not None and t.kind == "int" and reduce.whole_bytes(t):
                return op.a, None, byte
            a, dtype = _exact_operand(op.a, format, b)
            return a, None, dtype
        own = _byte(load.format)
        if byte is None or own is None or own == u8:
            own = byte = bf16 if _exact(format, bf16) and _exact(load.format, bf16) else f32
        codes = _centred_codes(load, own, b)
        return codes, self._along_axis(load, "scale", tile(codes).shape[:1], b), byte

    def _has_row_scale(self, load: Decoded) -> bool:
        """Whether an operand is codes times a scale that each row has for the whole step of k."""
        spans = all(isinstance(i.type, Span) for i in load.indices)
        plain = load.format.zero in ("none", "mid")
        return plain and spans and self.steady(load.indices[-1], load.format.group)

    def _operand(self, op: reduce.Dot) -> Decoded | None:
        """The scaled operand of a product, if its codes can take part as they are."""
        turned = self.made.get(op.b)
        if isinstance(turned, shape.Transpose) and turned.a in self.decoded:
            return self.decoded[turned.a]
        for side, name in ((op.a, "first"), (op.b, "second")):
            if side in self.decoded:
                mem = self.decoded[side].mem
                missing = (
                    f"k along its rows: it is the {name} operand as it lies; write dot(x, w.T)"
                )
                self._remark(op, f"`{mem.hint}` is decoded element by element", missing)
        return None

    def _obstacle(self, op: reduce.Dot, load: Decoded) -> str:
        """Why the scale can't move to the accumulator, or nothing."""
        if op.scale is not None:
            return "an accumulator without a scale of its own"
        if tile(op.acc).dtype != f32 or tile(op.a).dtype not in (*_EXACT, f32, f16):
            small = tile(op.a).dtype
            if not (tile(op.acc).dtype == f32 and small.is_integer and small.bits <= 8):
                return f"an operand in which codes are exact, beside {small}"
        if not all(isinstance(i.type, Span) for i in load.indices):
            return "spans as indices; gathered rows have scales of their own"
        if not self.steady(load.indices[-1], load.format.group):
            size = self.tiles.get(load.indices[-1])
            step = "all of k" if size is None else f"{size}"
            group = load.format.group
            return f"a step of k that divides the group of {group}; it is {step}"
        return ""

    def _along_axis(self, load: Decoded, name: str, out: Shape, b: Builder) -> Value:
        """A number for each index of the operand's first axis, as f32."""
        format = load.format
        found = self.number_of(load, format.numbers()[name], name, format.block, load.along(), b)
        return spread(found, (0,), out, b)

    def _corrected(
        self, op: reduce.Dot, load: Decoded, out: Value, scale: Value, b: Builder
    ) -> Value:
        """out + sum_k a[i, k] * offset[j], for zeros other than the middle."""
        if load.format.zeros is None:
            return out
        t = tile(out)
        offset = self._along_axis(load, "zero", t.shape[1:], b)
        if load.format.zero not in ADDED:
            mid = b(shape.Full(t.shape[1:], load.format.mid, f32))
            offset = b(arith.Mul(b(arith.Sub(mid, offset)), scale))
        total = b(reduce.Sum(as_f32(b, op.a), 1))
        left = b(shape.Broadcast(b(shape.Reshape(total, (t.shape[0], 1))), t.shape))
        return b(arith.Add(out, b(arith.Mul(left, b(shape.Broadcast(offset, t.shape))))))

    def _remark(self, op: Op, message: str, missing: str = "") -> None:
        self.remarks.append(Remark("lower-formats", message, op.loc, missing))


_EXACT = (bf16, e4m3, e5m2)  # beside these, codes are bf16: whole numbers up to 256 are exact


def _exact_operand(a: Value, format: Scaled, b: Builder) -> tuple[Value, DType]:
    """The other operand, and the dtype in which codes stand beside it, each exact."""
    t = tile(a).dtype
    wanted = bf16 if t.is_integer or t in _EXACT else t
    dtype = wanted if _exact(format, wanted) else f32
    return (a if dtype == wanted and not t.is_integer else b(Cast(a, dtype))), dtype


def _centred_codes(load: Decoded, dtype: DType, b: Builder) -> Value:
    """The codes of a load, less their middle if they have one, in a dtype that has them all."""
    if not _centred(load.format):
        return b(Cast(load.codes, dtype))
    wide = i16 if dtype.is_integer else dtype
    codes = b(Cast(load.codes, wide))
    codes = b(arith.Sub(codes, b(shape.Full(tile(codes).shape, load.format.mid, wide))))
    return codes if dtype == wide else b(Cast(codes, dtype))


def _byte(format: Scaled) -> DType | None:
    """The dtype of 8 bits that has the values of all codes of a format, less their middle."""
    return next((t for t in (i8, u8) if _exact(format, t)), None)


def _centred(format: Scaled) -> bool:
    """Whether codes are centred on their middle in a product, which keeps sums small."""
    return bool(format.mid) and format.zero not in ("none", "min")


def _exact(format: Scaled, t: DType) -> bool:
    """Whether a dtype has the values of all codes of a format, less their middle."""
    values = from_raw(format.codes, np.arange(1 << format.codes.bits)).astype(np.float64)
    centred = values - (format.mid if _centred(format) else 0)
    return bool(np.array_equal(t.round(centred), centred, equal_nan=True))
