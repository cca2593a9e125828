"""Scaled operands become their components: codes, scales and zeros, with the arithmetic to decode.

Where a product reads a scaled operand whose scales are constant over the step of its k loop, the
codes take part in it as whole numbers and the scale multiplies the accumulator instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import numpy as np

from tilec.ir.core import Block, Builder, Func, Op, Value, rebuild
from tilec.ir.dtype import Array, DType, bf16, e4m3, e5m2, f16, f32, i8, i32
from tilec.ir.dynamic import Dynamic
from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.ir.ops import arith, control, memory, packed, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.remark import Remark
from tilec.ir.scaled import ADDED, Scaled
from tilec.ir.types import Memory, Shape, Span
from tilec.passes import bit_planes, first_scales, two_step
from tilec.passes.bit_planes import Factor, digits
from tilec.passes.parts import as_f32, tile
from tilec.passes.pipeline import register
from tilec.passes.rounded import Rounded
from tilec.passes.scaled import (
    Components,
    Decoded,
    Elements,
    components,
    of_one_matrix,
    of_rows,
    spread,
)
from tilec.passes.sparse_product import sparse_product
from tilec.passes.whole import byte, centred, exact, taken, values


@register("lower-formats")
def lower_formats(
    func: Func, *, planes: int = 2, least: int = 128, two_steps: bool = True, zeros: str = "sums",
    terms: int = 1, first: bool = False,
) -> Func:  # fmt: skip
    """Replace each scaled parameter `w` by its components `w.codes`, `w.scale`, ..., decode loads.

    Before: tile sizes are chosen. After: every memory is dense. The value of an element is the
    same to the bit, but for products: there sum_k a * ((q - z) * s) becomes s * sum_k a * (q - mid)
    plus s * (mid - z) * sum_k a, which is exact arithmetic rounded elsewhere. It stays within the
    error of a sum in the accumulator's dtype over the products |a| * |q - mid| * |s| and
    |a| * |mid - z| * |s|.

    Whole codes of both operands, of p and q bits, are multiplied bit by bit where p * q is at most
    `planes` and a step has `least` k's for each of these products of bits, else as bytes. The
    defaults are for a CPU, where one product of bytes does 4 k's a lane, and AND, count and add do
    32: measured on a Zen 5 at 4096 x 4096, bits take 0.5 of the time for p * q = 1 and 0.8 for 2 in
    steps of 256 (0.3 and 0.45 in steps of 4096), 1.0 to 1.3 for 4, and lose in shorter steps.

    With `two_steps`, bytes are made of codes and integer scales of groups where a step has several
    groups and every product has 8 bits (see two_step).

    What zeros add are sums of the other operand along k, times theirs. `zeros=products` has these
    as products with ones: for machines with threads, among which a sum takes many instructions.
    Codes that are not exact beside f16 or bf16 are f32, or the sum of up to `terms` such floats,
    each with a product of its own, if these leave at most 2^-21 of each. With `first`, the scales
    of the rows of a second operand that is not turned go onto the first, in f32.
    """
    if zeros not in ZEROS:
        raise TileError(f"lower-formats: zeros is {zeros!r}, expected {' or '.join(ZEROS)}")
    rounded = {p: Rounded(p, f) for p in func.params if isinstance(f := _format(p), Dynamic)}
    parameters = {p: components(p) for p in func.params if isinstance(_format(p), Scaled)}
    parameters |= {p: r.components for p, r in rounded.items()}
    if not parameters:
        return func
    lowering = _Lowering(parameters, _tiles(func), planes, least, two_steps, zeros, terms,
                         first)  # fmt: skip
    body = rebuild(func.body, {}, lowering.change)
    grids = [r.grid() for r in rounded.values()]
    whole = Block(_params(func, rounded, parameters), (*grids, *body.ops), body.results)
    return func.replaced(whole, *lowering.remarks)


def _params(
    func: Func, rounded: Mapping[Value, Rounded], parameters: Mapping[Value, Components]
) -> tuple[Value, ...]:
    """What stands for the parameters, and last the components of what a kernel rounds."""
    params: list[Value] = []
    for p in func.params:
        if p in rounded:
            params.append(rounded[p].dense)
        else:
            params += parameters[p].values() if p in parameters else [p]
    return (*params, *(v for r in rounded.values() for v in r.components.values()))


def _format(v: Value) -> Format | None:
    return v.type.format if isinstance(v.type, Memory) else None


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

    def __init__(self, parameters: dict[Value, Components], tiles: dict[Value, int | None],
                 planes: int, least: int, two_steps: bool, zeros: str, terms: int,
                 first: bool) -> None:  # fmt: skip
        super().__init__(parameters, tiles)
        self.planes, self.least, self.two_steps = planes, least, two_steps
        self.zeros, self.terms, self.first = zeros, terms, first
        self.decoded: dict[Value, Decoded] = {}
        self.made: dict[Value, Op] = {}
        self.remarks: list[Remark] = []

    def change(self, op: Op, to: dict[Value, Value], b: Builder) -> bool:
        """Replace loads of scaled memory, and products of what they load."""
        load = self.loaded(op, b)
        if load is not None:
            to[op.result] = self.values(load, b)
            self.decoded[to[op.result]] = load
            return True
        if isinstance(op, reduce.Dot):
            hoisted = self._product(op, b)
            if hoisted is not None:
                to[op.result] = hoisted
                return True
        if isinstance(op, SparseDot) and op.values in self.decoded:
            load = self.decoded[op.values]
            to[op.result] = sparse_product(self, op, load, b)
            self._remark(op, f"{_what(load)}: codes as they are, the scale on the accumulator")
            return True
        if isinstance(op, packed.Groups | memory.Whole):
            self.parted(op)
        self.made.update(dict.fromkeys(op.results, op))
        return False

    def _product(self, op: reduce.Dot, b: Builder) -> Value | None:
        """The product with whole codes, the scale on the accumulator; None where it can't be."""
        lying = self.decoded.get(op.b)
        if self.first and lying and of_one_matrix(lying) and first_scales.suits(self, op, lying):
            self._remark(op, f"{_what(lying)}: codes in f32, the scale on the first operand")
            return first_scales.product(self, op, lying, b)
        load = self._operand(op)
        if load is None:
            return None
        out = self._in_two_steps(op, load, b)
        if out is not None:
            return out
        problem = self._obstacle(op, load, load.format.group)
        if problem:
            self._remark(op, f"{_what(load)} is decoded element by element", problem)
            return None
        return (self._by_bits(op, load, b) or self._by_terms(op, load, b)
                or self._by_codes(op, load, b))  # fmt: skip

    def _in_two_steps(self, op: reduce.Dot, load: Decoded, b: Builder) -> Value | None:
        """The product of bytes that codes and their groups' scales make, where a step of k has
        several groups."""
        e = two_step.expansion(load.format) if self.two_steps else None
        if e is None or not self._in_bytes(op.a):
            return None
        if e.dtype is None:
            self._remark(op, f"{_what(load)}: codes are not multiplied by the scales of groups",
                         "products in -128 to 127 for every code; they are in "
                         f"{e.least} to {e.most}")  # fmt: skip
            return None
        one = self.steady(load.indices[-1], load.format.group)
        if one or self._obstacle(op, load, e.block.columns):
            return None
        a, row_scale = self._bytes(op, b)
        codes = two_step.expanded(self, load, e, b)
        scale = spread(two_step.outer(self, load, e, b), (0,), tile(op.acc).shape[1:], b)
        turned = b(shape.Transpose(codes, (1, 0)))
        self._remark(op, f"{_what(load)}: codes times the scales of groups in {e.dtype}, the outer "
                     "scale on the accumulator")  # fmt: skip
        return b(reduce.Dot(a, turned, op.acc, scale, row_scale))

    def _by_bits(self, op: reduce.Dot, load: Decoded, b: Builder) -> Value | None:
        """The product bit by bit, where both operands have few."""
        x, w = self._whole(op.a), self._factor(load)
        if x is None or w is None:
            return None
        p, q = (len(f.digits.weights) for f in (x, w))
        if p * q > self.planes or p * q * self.least > self._step(load.indices[-1]):
            return None
        total = bit_planes.product(x, w, tile(op.acc).shape, b)
        scale = self._along_axis(load, "scale", tile(op.acc).shape[1:], b)
        self._remark(op, f"{_what(load)}: ones of {p} x {q} bits of codes are counted, the scale "
                     "on the accumulator")  # fmt: skip
        out = bit_planes.onto(op.acc, total, scale, self._row_scale(op, b), b)
        return self._corrected(op, load, out, scale, b)

    def _by_terms(self, op: reduce.Dot, load: Decoded, b: Builder) -> Value | None:
        """The products with the floats whose sum codes are, the scale on their sum."""
        t, shape_ = tile(op.a).dtype, tile(op.acc).shape
        count = _terms(values(load.format), t) if t in (f16, bf16) else 0
        if not 1 < count <= self.terms or taken(load.format):
            return None
        total = b(shape.Full(shape_, 0.0, f32))
        for i in range(count):
            turned = b(shape.Transpose(b(packed.Term(load.codes, t, i)), (1, 0)))
            total = b(reduce.Dot(op.a, turned, total))
        scale = self._along_axis(load, "scale", shape_[1:], b)
        self._remark(op, f"{_what(load)}: codes as the sum of {count} {t}, the scale on the "
                     "accumulator")  # fmt: skip
        out = b(arith.Fma(total, b(shape.Broadcast(scale, shape_)), op.acc))
        return self._corrected(op, load, out, scale, b)

    def _by_codes(self, op: reduce.Dot, load: Decoded, b: Builder) -> Value:
        """The product with codes in a dtype that has them all."""
        a, row_scale, dtype = self._beside(op, load.format, b)
        codes = centred(load.codes, load.format, dtype, b)
        scale = self._along_axis(load, "scale", tile(op.acc).shape[1:], b)
        turned = b(shape.Transpose(codes, (1, 0)))
        self._remark(op, f"{_what(load)}: codes in {dtype}, the scale on the accumulator")
        out = b(reduce.Dot(a, turned, op.acc, scale, row_scale))
        return self._corrected(op, load, out, scale, b)

    def _step(self, k: Value) -> float:
        """How many k's a step has."""
        assert isinstance(k.type, Span)
        sizes = [n for n in (k.type.dim, self.tiles.get(k)) if isinstance(n, int)]
        return min(sizes, default=inf)

    def _whole(self, a: Value) -> Factor | None:
        """The first operand of a product as whole numbers, without the scale of its rows."""
        load = self.decoded.get(a)
        if load is not None:
            return self._factor(load) if self._has_row_scale(load) else None
        made, t = self.made.get(a), tile(a).dtype
        if not isinstance(made, memory.Load) or not reduce.whole_bytes(t):
            return None
        found = digits(np.array([t.low, t.high]))

        def read(b: Builder) -> Value:
            return b(Cast(b(made.rebuilt({})), i32))

        return found and Factor(read, found, tile(a).shape)

    def _factor(self, load: Decoded) -> Factor | None:
        """The codes of a load, if they are whole numbers."""
        found = digits(values(load.format))
        codes = self.parameters[load.mem]["codes"]

        def read(b: Builder) -> Value:
            return centred(b(memory.Load(codes, load.indices)), load.format, i32, b)

        return found and Factor(read, found, tile(load.codes).shape)

    def _beside(self, op: reduce.Dot, format: Scaled,
                b: Builder) -> tuple[Value, Value | None, DType]:  # fmt: skip
        """The first operand, the scale of its rows if it has one, and the dtype of the codes."""
        whole, load = byte(values(format)), self.decoded.get(op.a)
        if whole is not None and self._in_bytes(op.a):
            return *self._bytes(op, b), whole
        if load is None or not self._has_row_scale(load):
            a, dtype = _exact_operand(op.a, format, b)
            return a, None, dtype
        both = exact(values(format), bf16) and exact(values(load.format), bf16)
        dtype = bf16 if both else f32
        return centred(load.codes, load.format, dtype, b), self._row_scale(op, b), dtype

    def _in_bytes(self, a: Value) -> bool:
        """Whether the first operand is whole numbers that fit i8, but for a scale of its rows."""
        load, t = self.decoded.get(a), tile(a).dtype
        if load is None or not self._has_row_scale(load):
            return t.kind == "int" and reduce.whole_bytes(t)
        return exact(values(load.format), i8)

    def _bytes(self, op: reduce.Dot, b: Builder) -> tuple[Value, Value | None]:
        """The first operand in i8, and the scale of its rows if it has one."""
        load = self.decoded.get(op.a)
        if load is None or not self._has_row_scale(load):
            return op.a, None
        return centred(load.codes, load.format, i8, b), self._row_scale(op, b)

    def _row_scale(self, op: reduce.Dot, b: Builder) -> Value | None:
        """The scale of each row of the first operand, if it has one."""
        load = self.decoded.get(op.a)
        if load is None or not self._has_row_scale(load):
            return None
        return self._along_axis(load, "scale", tile(op.a).shape[:1], b)

    def _has_row_scale(self, load: Decoded) -> bool:
        """Whether an operand is codes times a scale that each row has for the whole step of k."""
        if load.format.zero not in ("none", "mid") or not of_rows(load):
            return False
        return self.steady(load.indices[-1], load.format.group)

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

    def _obstacle(self, op: reduce.Dot, load: Decoded, group: int | None) -> str:
        """Why the scale of a group can't move to the accumulator, or nothing."""
        if op.scale is not None:
            return "an accumulator without a scale of its own"
        if tile(op.acc).dtype != f32 or tile(op.a).dtype not in (*_EXACT, f32, f16):
            small = tile(op.a).dtype
            if not (tile(op.acc).dtype == f32 and small.is_integer and small.bits <= 8):
                return f"an operand in which codes are exact, beside {small}"
        if not of_one_matrix(load):
            return "spans as indices; gathered rows have scales of their own"
        if not self.steady(load.indices[-1], group):
            size = self.tiles.get(load.indices[-1])
            step = "all of k" if size is None else f"{size}"
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
        left, offset = self._sums(op.a, t.shape, b), b(shape.Broadcast(offset, t.shape))
        if self.zeros == "products":
            return b(arith.Fma(left, offset, out))
        return b(arith.Add(out, b(arith.Mul(left, offset))))

    def _sums(self, a: Value, out: Shape, b: Builder) -> Value:
        """sum_k a[i, k] for every j."""
        own = tile(a)
        if self.zeros == "products" and own.dtype in (f16, bf16):
            ones = b(shape.Full((own.shape[1], out[1]), 1.0, own.dtype))
            return b(reduce.Dot(a, ones, b(shape.Full(out, 0.0, f32))))
        total = b(reduce.Sum(as_f32(b, a), 1))
        return b(shape.Broadcast(b(shape.Reshape(total, (out[0], 1))), out))

    def _remark(self, op: Op, message: str, missing: str = "") -> None:
        self.remarks.append(Remark("lower-formats", message, op.loc, missing))


def _what(load: Decoded) -> str:
    return f"`{load.mem.hint}` ({load.format})"


def _terms(values_: Array, t: DType) -> int:
    """How many floats of a type the numbers are the sums of, but for little; 0 if too many."""
    most = np.abs(values_) * REST
    return next((n for n in range(1, 4) if (np.abs(packed.rest(values_, t, n)) <= most).all()), 0)


REST = 2.0**-21  # what terms may leave of a number
ZEROS = ("sums", "products")
_EXACT = (bf16, e4m3, e5m2)  # beside these, codes are bf16: whole numbers up to 256 are exact


def _exact_operand(a: Value, format: Scaled, b: Builder) -> tuple[Value, DType]:
    """The other operand, and the dtype in which codes stand beside it, each exact."""
    t = tile(a).dtype
    wanted = bf16 if t.is_integer or t in _EXACT else t
    dtype = wanted if exact(values(format), wanted) else f32
    return (a if dtype == wanted and not t.is_integer else b(Cast(a, dtype))), dtype
