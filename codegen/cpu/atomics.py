"""Sums in memory that several threads add to: each addition is one step."""

from __future__ import annotations

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.llvm import Function, V
from tilec.ir.dtype import DType, f32, f64


def add(f: Function, t: DType, v: V, at: V) -> None:
    """Add a value of the dtype to the element at an address: whole numbers and wide floats by one
    instruction of LLVM's, other floats by exchanges that fail when another thread was faster."""
    if t.is_float and t not in (f32, f64):
        _exchanged(f, t, v, at)
        return
    kind, how = (v.type, "fadd") if t.is_float else (f"i{8 * numbers.item(t)}", "add")
    given = v if t.is_float else f.convert("trunc", v, kind)
    f.op(kind, 1, f"atomicrmw {how} ptr {at.text}, {kind} {given.text} monotonic")


def _exchanged(f: Function, t: DType, v: V, at: V) -> None:
    """Until the bits that the sum is made of are those that it replaces."""
    item = numbers.item(t)
    kind = f"i{8 * item}"
    first = f.op(kind, 1, f"load atomic {kind}, ptr {at.text} monotonic, align {item}")
    before = f.label
    again, done = f.labels("again", "added")
    f.emit(f"br label %{again}")
    f.place(again)
    old, found = V(kind, 1, f.fresh()), V(kind, 1, f.fresh())
    phi = len(f.lines)
    total = numbers.round_float(f, t, f.binary("fadd", _value(f, t, old), v))
    pair = f"{{ {kind}, i1 }}"
    new = f"{kind} {_bits(f, t, total, kind).text}"
    both = f.op(pair, 1, f"cmpxchg ptr {at.text}, {kind} {old.text}, {new} monotonic monotonic")
    f.emit(f"{found.text} = extractvalue {pair} {both.text}, 0")
    alone = f.op("i1", 1, f"extractvalue {pair} {both.text}, 1")
    ways = f"[{first.text}, %{before}], [{found.text}, %{f.label}]"
    f.lines.insert(phi, f"  {old.text} = phi {kind} {ways}")
    f.branch(alone, done, again)
    f.place(done)


def _value(f: Function, t: DType, bits: V) -> V:
    if t.bits == 32:
        return numbers.round_float(f, t, f.convert("bitcast", bits, "float"))
    return numbers.from_bits(f, t, f.convert("zext", bits, "i32"))


def _bits(f: Function, t: DType, v: V, kind: str) -> V:
    if t.bits == 32:
        return f.convert("bitcast", v, kind)
    return f.convert("trunc", numbers.narrow(f, t, v), kind)
