"""Layers in bytes: fp8 and int8, compressed-tensors' nvfp4, and bitsandbytes' NF4."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import numpy as np

from tilec.files.layer import (
    Layer,
    Options,
    Quantised,
    config_numbers,
    quantised,
    scale_block,
    scaled_format,
    stored,
)
from tilec.ir.bits import from_raw
from tilec.ir.codes import CODES
from tilec.ir.dtype import Array, DType, e4m3, e5m2, f32, i8
from tilec.ir.granularity import Granularity
from tilec.ir.named import named
from tilec.runtime.tensor import PackedTensor, packed

BYTES: dict[str, DType] = {"float8_e4m3fn": e4m3, "float8_e5m2": e5m2, "int8": i8}
NVFP4_GROUP = 16
NF4_MAP = CODES["nf4"]
STATE = "weight.quant_state.bitsandbytes__nf4"


def read_bytes(scale_end: str, layer: Layer) -> Quantised:
    """weight [N, K] of fp8 or int8, and its scale for the tensor, each row, group or block."""
    if "weight_zero_point" in layer.tensors:
        raise layer.error("`.weight_zero_point` beside a weight in bytes", "symmetric codes")
    weight = layer.tensor("weight", tuple(BYTES), None, None)
    scale = layer.scales(scale_end)
    n, k = weight.shape
    block = scale_block(layer, scale, n, k, config_numbers(layer.options, "group_size"))
    t = BYTES[weight.dtype.name]
    return quantised(t, block, (n, k), {"codes": t.from_storage(weight), "scale": scale})


def write_bytes(scale_end: str, weight: PackedTensor, options: Options) -> dict[str, Array]:
    """The tensors of a layer again."""
    numbers, t = stored(weight), scaled_format(weight).codes
    return {"weight": numbers["codes"].view(t.numpy), scale_end: numbers["scale"]}


def read_nvfp4(layer: Layer) -> Quantised:
    """weight_packed [N, K / 2], weight_scale [N, K / 16] of e4m3, and weight_global_scale: the
    reciprocal of what the scales are multiplied with. It is kept, since 1 / x loses bits."""
    words = layer.tensor("weight_packed", ("uint8",), None, None)
    n, k = words.shape[0], 2 * words.shape[1]
    if k % NVFP4_GROUP:
        raise layer.error(f"`.weight_packed` has {k} columns", f"groups of {NVFP4_GROUP}")
    scale = layer.tensor("weight_scale", ("float8_e4m3fn",), n, k // NVFP4_GROUP)
    kept = layer.scales("weight_global_scale", ("float32",))
    if kept.size != 1:
        raise layer.error(f"`.weight_global_scale` has shape {list(kept.shape)}", "one number")
    divisor = float(kept.reshape(-1)[0])
    if not math.isfinite(divisor) or divisor == 0 or not math.isfinite(1 / divisor):
        raise layer.error(f"`.weight_global_scale` is {divisor}", "a finite number other than 0")
    parts = {
        "codes": from_raw(CODES["e2m1"], _nibbles(words, high_first=False)),
        "scale.codes": e4m3.from_storage(scale),
        "scale.scale": f32.round(np.array(1.0 / divisor)),
    }
    return Quantised(packed(named("nvfp4"), parts, (n, k)), {"weight_global_scale": kept})


def write_nvfp4(weight: PackedTensor, options: Options) -> dict[str, Array]:
    """The tensors of a layer again."""
    numbers = stored(weight)
    codes = numbers["codes"]
    scale = numbers["scale.codes"].view(e4m3.numpy)
    return {"weight_packed": codes[:, ::2] | codes[:, 1::2] << 4, "weight_scale": scale}


def read_nf4(layer: Layer) -> Quantised:
    """weight [N * K / 2, 1], the high nibble first, weight.absmax for each block of the rows, the
    weight.quant_map, and a state in JSON. Where absmax is itself quantised it is kept."""
    n, k, size, state = _state(layer)
    data = layer.tensor("weight", ("uint8",), None, None)
    if n * k % 2 or data.size * 2 != n * k or 1 not in data.shape:
        raise layer.error(f"`.weight` has shape {list(data.shape)}", f"[{n * k // 2}, 1]")
    if k % size:
        raise layer.error(f"a block of {size} is not within a row of {k}", "whole blocks a row")
    table = layer.tensor("weight.quant_map", ("float32",), 16)
    if NF4_MAP.table is None or not np.array_equal(table, _nf4_map()):
        raise layer.error("`.weight.quant_map` is not the table of NF4", "bitsandbytes' constants")
    kept = {STATE: layer.tensors[STATE]}
    if "weight.nested_absmax" in layer.tensors:
        absmax, nested = _nested(layer, n * k // size, state)
        kept |= nested
    else:
        absmax = layer.tensor("weight.absmax", ("float32",), n * k // size)
    codes = from_raw(NF4_MAP, _nibbles(data, high_first=True).reshape(n, k))
    parts = {"codes": codes, "scale": absmax}
    return quantised(NF4_MAP, Granularity(size), (n, k), parts, kept=kept)


def write_nf4(weight: PackedTensor, options: Options) -> dict[str, Array]:
    """The tensors of a layer again; absmax as f32."""
    numbers = stored(weight)
    codes = numbers["codes"].reshape(-1)
    return {
        "weight": codes[::2] << 4 | codes[1::2],
        "weight.absmax": numbers["scale"].reshape(-1),
        "weight.quant_map": _nf4_map(),
    }


def refuse_fp4(layer: Layer) -> Quantised:
    """bitsandbytes' FP4 has a table of its own."""
    raise layer.error("bitsandbytes' FP4 is not supported", "NF4")


def _nf4_map() -> Array:
    return from_raw(NF4_MAP, np.arange(16)).astype(np.float32)


def _state(layer: Layer) -> tuple[int, int, int, dict[str, Any]]:
    """The shape, the elements of a block, and the whole state."""
    data = layer.tensor(STATE, ("uint8",), None)
    try:
        read: Any = json.loads(data.tobytes().rstrip(b"\0"))
    except ValueError as e:
        raise layer.error(f"`.{STATE}` is no JSON ({e})", "bitsandbytes' state") from e
    state = cast("dict[str, Any]", read) if isinstance(read, dict) else {}
    match state:
        case {"quant_type": "nf4", "blocksize": int(size), "shape": [int(n), int(k)]} if (
            min(n, k, size) > 0
        ):
            return n, k, size, state
        case _:
            raise layer.error(f"`.{STATE}` is {json.dumps(read)[:200]}",
                              "quant_type nf4, a blocksize and a shape [N, K]")  # fmt: skip


def _nested(layer: Layer, count: int, state: dict[str, Any]) -> tuple[Array, dict[str, Array]]:
    """The f32 that a quantised absmax stands for, and its tensors."""
    match state:
        case {"nested_blocksize": int(size), "nested_offset": float(offset) | int(offset)} if (
            size > 0
        ):
            pass
        case _:
            raise layer.error(f"`.{STATE}` has no nested_blocksize and nested_offset",
                              "both beside `.weight.nested_absmax`")  # fmt: skip
    codes = layer.tensor("weight.absmax", ("uint8",), count)
    scale = layer.tensor("weight.nested_absmax", ("float32",), -(-count // size))
    table = layer.tensor("weight.nested_quant_map", ("float32",), 256)
    with np.errstate(over="ignore", invalid="ignore"):
        absmax = table[codes] * np.repeat(scale, size)[:count] + np.float32(offset)
    kept = {"weight.absmax": codes, "weight.nested_absmax": scale, "weight.nested_quant_map": table}
    return absmax, kept


def _nibbles(data: Array, high_first: bool) -> Array:
    """Two codes of each byte, one after the other along the last axis."""
    pair = (data >> 4, data & 15) if high_first else (data & 15, data >> 4)
    return np.stack(pair, -1).reshape(*data.shape[:-1], -1)
