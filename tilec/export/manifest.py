"""What a manifest says: the arguments of a call, where they lie, and what each launch takes."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tilec.ir.dtype import BY_NAME, DType
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, substitute
from tilec.ir.format import Format
from tilec.ir.fragments import Fragments, Places
from tilec.ir.interleaved import Interleaved
from tilec.ir.source import Order, Param, TensorBoxes
from tilec.lang.kernel import Definition, TensorSpec
from tilec.runtime.plan import ELEMENTS, SWIZZLES
from tilec.runtime.program import Boxes, Given, Kernel, Made, Parameter, Program, Size


def arguments_of(
    definition: Definition, types: Mapping[str, Format | DType], known: Mapping[str, int],
    made: Program, orders: Mapping[str, Order],
) -> list[dict[str, Any]]:  # fmt: skip
    """The arguments of a call. A packed tensor has its components, each with its bytes and order.

    Raises TileError where a packed tensor's extents are not known.
    """
    found: list[dict[str, Any]] = []
    for i, p in enumerate(definition.signature.params):
        slots = [s for s in made.params if s.argument == i]
        if not isinstance(p.spec, TensorSpec):
            found.append({"name": p.name, "kind": "scalar", **scalar_of(p.spec)})
            continue
        dims = [substitute(d, known) for d in p.spec.dims]
        shape = [written(d) for d in dims]
        if any(s.kind == "packed" for s in slots):
            unknown = [d for d in shape if isinstance(d, str)]
            if unknown:
                raise TileError(f"`{p.name}` is packed, and the dimension {unknown[0]} is not "
                                "known", hint=f"--dims {unknown[0]}=4096")  # fmt: skip
            parts = [_component(s, orders.get(s.name)) for s in slots]
            format = str(types.get(p.name) or p.spec.format)
            found.append({"name": p.name, "kind": "packed", "format": format, "shape": shape,
                          "components": parts})  # fmt: skip
        else:
            found.append({"name": p.name, "kind": "tensor", "dtype": slots[0].dtype,
                          "shape": shape})  # fmt: skip
    return found


def scalar_of(t: DType) -> dict[str, Any]:
    """A number: a kernel computes with f64, f32 or integers (`KernelSource`)."""
    if t.is_float:
        return {"dtype": str(t), "carrier": "f64" if t.bits == 64 else "f32"}
    span = [int(t.low), int(t.high)] if t.is_integer else [0, 1]
    return {"dtype": str(t), "carrier": "integer", "range": span}


def open_dims(definition: Definition, known: Mapping[str, int]) -> list[str]:
    """The dimensions that a call gives, in order."""
    specs = (p.spec for p in definition.signature.params if isinstance(p.spec, TensorSpec))
    found = (str(d) for spec in specs for d in spec.dims if not isinstance(d, int))
    return list(dict.fromkeys(n for n in found if n not in known))


def _component(p: Param, order: Order | None) -> dict[str, Any]:
    shape = tuple(int(d) for d in p.shape)
    said: dict[str, Any] = {"name": p.component, "dtype": p.dtype, "shape": list(shape)}
    match order:
        case None:
            bits = BY_NAME[p.dtype].bits
            size = prod(shape[:-1]) * -(-shape[-1] * bits // 8)
            said["order"] = {"kind": "rows"}
        case Interleaved(codes, step):
            size = prod(shape) * BY_NAME[p.dtype].bits // 8
            said["order"] = {"kind": "interleaved", "codes": str(codes), "step": step}
        case Fragments(codes, layout, arrangement):
            beyond = {"beyond": [0, 1]} if isinstance(order, Places) else {}  # pads rows of tiles
            size = order.size(shape)
            said["order"] = {
                "kind": "fragments", "codes": str(codes), "layout": str(layout),
                "places": arrangement.places, "stored": arrangement.stored,
                **beyond,
            }  # fmt: skip
        case _:
            raise TileError(f"a manifest has no words for {order}")
    return {**said, "bytes": size}


def launch_of(k: Kernel, made: Program) -> dict[str, Any]:
    """A launch, and where its parameters are from, in order."""
    given = [_parameter(p, made) for p in k.parameters]
    return {"entry": k.entry, "blocks": written(k.blocks), "threads": k.threads,
            "parameters": given}  # fmt: skip


def _parameter(p: Parameter, made: Program) -> dict[str, Any]:
    match p:
        case Given(place):
            param = made.params[place]
            name = param.name.partition(".")[0]
            return {"kind": "argument", "argument": name, "component": param.component}
        case Made(name):
            return {"kind": "own", "name": name}
        case Size(extent):
            return {"kind": "size", "extent": written(extent)}
        case Boxes(boxes, of):
            return {"kind": "map", "of": _parameter(of, made), **_map(boxes)}
        case _:
            raise TileError(f"a manifest has no words for {p}")


def written(e: Extent) -> int | str:
    """An extent as JSON has it."""
    return e if isinstance(e, int) else str(e)


def _map(x: TensorBoxes) -> dict[str, Any]:
    """A tensor map, in the numbers of cuTensorMapEncodeTiled; outermost axes come first."""
    return {
        "element": ELEMENTS[x.element], "shape": [written(d) for d in x.shape],
        "pitches": list(x.pitches), "box": list(x.box), "swizzle": SWIZZLES[x.swizzle],
    }  # fmt: skip
