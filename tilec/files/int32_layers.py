"""Layers of integers in int32 words: GPTQ, AWQ and compressed-tensors' pack-quantized."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from tilec.files.int32_packing import (
    pack_awq,
    pack_words,
    unpack_awq,
    unpack_words,
    words_of,
)
from tilec.files.layer import (
    SCALES,
    Layer,
    Options,
    Quantised,
    config_numbers,
    group_block,
    ordered,
    quantised,
    scale_block,
    scaled_format,
    stored,
)
from tilec.ir.bits import from_raw
from tilec.ir.dtype import Array, integer
from tilec.ir.granularity import Granularity
from tilec.runtime.tensor import PackedTensor

INT32 = ("int32",)
GPTQ_BITS = (2, 3, 4, 8)
PACKED_BITS = (4, 8)
LESS = {None: 1, "gptq": 1, "gptq_v2": 0}  # what a checkpoint_format takes from zeros it stores


def read_gptq(layer: Layer) -> Quantised:
    """qweight [K * bits / 32, N], qzeros [G, N * bits / 32], scales [G, N]."""
    less = _gptq_less(layer)
    qweight = layer.tensor("qweight", INT32, None, None)
    n = qweight.shape[1]
    scales = layer.tensor("scales", SCALES, None, n)
    qzeros = layer.tensor("qzeros", INT32, len(scales), None)
    bits = _gptq_bits(layer, qzeros, n)
    k = len(qweight) * 32 // bits
    if len(qweight) * 32 % bits:
        raise layer.error(f"`.qweight` has {len(qweight)} rows of {bits}-bit codes",
                          "a whole number of codes")  # fmt: skip
    sizes, _ = _gptq_said(layer)
    block = group_block(layer, k, len(scales), sizes)
    kept, order = layer.order("g_idx", k, block)
    codes = unpack_words(qweight.T, bits)
    codes = codes if order is None else codes[:, order]
    zeros = unpack_words(qzeros, bits)
    # A zero lies in the range of the codes, so one that was stored less 1 as -1 wraps back.
    zeros = (zeros.astype(np.int64) + less) & (1 << bits) - 1
    return ordered(_integers(bits, block, codes, zeros.T, scales.T, kept), order)


def write_gptq(weight: PackedTensor, options: Options) -> dict[str, Array]:
    """The tensors of a layer again."""
    format, numbers = scaled_format(weight), stored(weight)
    bits, n = format.codes.bits, weight.shape[0]
    zeros = _zeros(format.mid, numbers)
    less = LESS.get(options.get("checkpoint_format"), 1)
    wrapped = (zeros.astype(np.int64) - less & (1 << bits) - 1).astype(np.uint8)
    return {
        "qweight": pack_words(numbers["codes"], bits).T,
        "qzeros": pack_words(wrapped.reshape(n, -1).T, bits),
        "scales": numbers["scale"].reshape(n, -1).T,
    }


def _gptq_less(layer: Layer) -> int:
    said = layer.options.get("checkpoint_format")
    if said not in LESS:
        raise layer.error(f"quantization_config has checkpoint_format = {said!r}",
                          "gptq or gptq_v2")  # fmt: skip
    return LESS[said]


def _gptq_said(layer: Layer) -> tuple[set[int], set[int]]:
    """The group sizes and the widths that the config says; `dynamic` overrides some layers'."""
    said: list[Options] = [layer.options]
    dynamic = layer.options.get("dynamic")
    if isinstance(dynamic, dict):
        found = cast("dict[str, Any]", dynamic).values()
        said += [cast(Options, override) for override in found if isinstance(override, dict)]
    layers = [replace(layer, options=options) for options in said]
    sizes = {inner.number("group_size") for inner in layers}
    widths = {inner.number("bits") for inner in layers}
    return {s for s in sizes if s is not None}, {w for w in widths if w is not None}


def _gptq_bits(layer: Layer, qzeros: Array, n: int) -> int:
    """The width of codes, from the words that n zeros take."""
    bits, rest = divmod(qzeros.shape[1] * 32, n)
    if rest or bits not in GPTQ_BITS:
        raise layer.error(f"{n} zeros a group are {qzeros.shape[1]} words of `.qzeros`",
                          "2, 3, 4 or 8 bits a zero")  # fmt: skip
    _, widths = _gptq_said(layer)
    if widths and bits not in widths:
        said = ", ".join(map(str, sorted(widths)))
        raise layer.error(f"`.qzeros` has {bits} bits a zero", f"{said} (quantization_config)")
    return bits


def read_awq(layer: Layer) -> Quantised:
    """qweight [K, N / 8], qzeros [G, N / 8], scales [G, N], columns interleaved in each word."""
    version = layer.options.get("version")
    if version is not None and str(version).lower() != "gemm":
        raise layer.error(f"quantization_config has version = {version!r}", "gemm")
    bits = layer.number("bits", "w_bit")
    if bits not in (None, 4):
        raise layer.error(f"quantization_config has {bits} bits", "4")
    qweight = layer.tensor("qweight", INT32, None, None)
    k, n = len(qweight), 8 * qweight.shape[1]
    scales = layer.tensor("scales", SCALES, None, n)
    qzeros = layer.tensor("qzeros", INT32, len(scales), n // 8)
    size = layer.number("group_size", "q_group_size")
    block = group_block(layer, k, len(scales), set() if size is None else {size})
    return _integers(4, block, unpack_awq(qweight).T, unpack_awq(qzeros).T, scales.T, {})


def write_awq(weight: PackedTensor, options: Options) -> dict[str, Array]:
    """The tensors of a layer again."""
    numbers, n = stored(weight), weight.shape[0]
    zeros = _zeros(scaled_format(weight).mid, numbers)
    return {
        "qweight": pack_awq(numbers["codes"].T),
        "qzeros": pack_awq(zeros.reshape(n, -1).T),
        "scales": numbers["scale"].reshape(n, -1).T,
    }


def read_packed(layer: Layer) -> Quantised:
    """weight_packed [N, words of K], weight_scale, weight_shape [2], and perhaps
    weight_zero_point [words of N, G]; a code has 2**(bits-1) added to it."""
    said = layer.tensor("weight_shape", ("int64", "int32"), 2)
    n, k = int(said[0]), int(said[1])
    words = layer.tensor("weight_packed", INT32, n, None)
    bits = _packed_bits(layer, words.shape[1], k)
    scale = layer.scales("weight_scale")
    block = scale_block(layer, scale, n, k, config_numbers(layer.options, "group_size"))
    kept, order = layer.order("weight_g_idx", k, block)
    kept = {"weight_shape": said} | kept
    codes = from_raw(integer(bits, False), _codes(layer, "weight_packed", words, bits, k))
    codes = codes if order is None else codes[:, order]
    parts = {"codes": codes, "scale": scale}
    if "weight_zero_point" not in layer.tensors:
        found = quantised(integer(bits, False), block, (n, k), parts, "mid", kept)
        return ordered(found, order)
    if block.rows != 1:
        raise layer.error(f"`.weight_zero_point` with scales of shape {list(scale.shape)}",
                          "a scale for each group of a row, or for each row")  # fmt: skip
    zeros = layer.tensor("weight_zero_point", INT32, words_of(n, bits), scale.size // n)
    parts["zero"] = _codes(layer, "weight_zero_point", zeros.T, bits, n).T
    found = quantised(integer(bits, False), block, (n, k), parts, "int", kept)
    return ordered(found, order)


def write_packed(weight: PackedTensor, options: Options) -> dict[str, Array]:
    """The tensors of a layer again."""
    format, numbers, n = scaled_format(weight), stored(weight), weight.shape[0]
    bits = format.codes.bits
    out = {"weight_packed": pack_words(numbers["codes"], bits), "weight_scale": numbers["scale"]}
    if format.zero == "int":
        out["weight_zero_point"] = pack_words(numbers["zero"].reshape(n, -1).T, bits).T
    return out


def _packed_bits(layer: Layer, words: int, k: int) -> int:
    said = config_numbers(layer.options, "num_bits") or {*PACKED_BITS}
    fitting = [b for b in PACKED_BITS if b in said and words_of(k, b) == words]
    if len(fitting) != 1:
        widths = " or ".join(map(str, sorted(said)))
        raise layer.error(f"`.weight_packed` has {words} words for {k} columns",
                          f"codes of {widths} bits, and 4 or 8")  # fmt: skip
    return fitting[0]


def _codes(layer: Layer, end: str, words: Array, bits: int, count: int) -> Array:
    """The first codes of each row of words; there must be nothing after them."""
    codes = unpack_words(words, bits)
    if codes[..., count:].any():
        raise layer.error(f"`.{end}` has bits after its {count} codes", "zeros")
    return codes[..., :count]


def _integers(bits: int, block: Granularity, codes: Array, zeros: Array, scales: Array,
              kept: dict[str, Array]) -> Quantised:  # fmt: skip
    """Codes [N, K], zeros and scales [N, G]. Zeros that are all in the middle are not stored."""
    t = integer(bits, False)
    shape = (codes.shape[0], codes.shape[1])
    parts = {"codes": from_raw(t, codes), "scale": scales}
    if (zeros == 1 << bits - 1).all():
        return quantised(t, block, shape, parts, "mid", kept)
    return quantised(t, block, shape, parts | {"zero": zeros}, "int", kept)


def _zeros(mid: int, numbers: dict[str, Array]) -> Array:
    """The zeros of every block, stored or in the middle."""
    return numbers.get("zero", np.full(numbers["scale"].shape, mid, np.uint8))
