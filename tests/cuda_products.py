"""One product for each matrix instruction of the CUDA vocabulary, on data where it is exact."""

from __future__ import annotations

from typing import Any

import cuda_kernels as kernels
import ml_dtypes
import numpy as np
from cuda_kernels import Array, Case

from tilec.codegen.cuda.wgmma import DEPTHS, Wgmma

BITS = {"f16": 16, "bf16": 16, "tf32": 32, "e4m3": 8, "e5m2": 8, "s8": 8, "u8": 8,
        "s4": 4, "u4": 4, "b1": 1}  # fmt: skip
FLOATS: dict[str, Any] = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
INTEGERS = {"s8": (-128, 128), "u8": (0, 256), "s4": (-8, 8), "u4": (0, 16), "b1": (0, 2)}
PAIRS = [
    ("f16", "f16"), ("bf16", "bf16"), ("tf32", "tf32"),
    ("s8", "s8"), ("s8", "u8"), ("u8", "s8"), ("u8", "u8"),
    ("s4", "s4"), ("s4", "u4"), ("u4", "s4"), ("u4", "u4"), ("b1", "b1"),
    ("e4m3", "e4m3"), ("e4m3", "e5m2"), ("e5m2", "e4m3"), ("e5m2", "e5m2"),
]  # fmt: skip
C_TYPES = {"f32": "f4", "s32": "i4", "f16": "f2"}


def values(seed: int, shape: tuple[int, int], element: str) -> Array:
    """Numbers of an element type, as doubles: all codes of integers, floats of a few bits."""
    random = np.random.default_rng(seed)
    if element in INTEGERS:
        return random.integers(*INTEGERS[element], shape).astype("f8")
    return np.ldexp(random.integers(-7, 8, shape).astype("f8"), random.integers(-2, 3, shape))


def packed(numbers: Array, element: str) -> Array:
    """The rows as words, the first element in the lowest bits."""
    rows = numbers.shape[0]
    if element in FLOATS:
        return numbers.astype(FLOATS[element]).view("u1").reshape(rows, -1).view("u4")
    if element == "tf32":
        noise = np.random.default_rng(9).integers(0, 1 << 13, numbers.shape)  # which is ignored
        return numbers.astype("f4").view("u4") | noise.astype("u4")
    each = 32 // BITS[element]
    codes = (numbers.astype("i8") & ((1 << BITS[element]) - 1)).reshape(rows, -1, each)
    return (codes << (np.arange(each) * BITS[element])).sum(-1).astype("u4")


def sum_of(element: str) -> str:
    return "s32" if element in INTEGERS else "f32"


def product(a: str, b: str, total: str, short: bool) -> Case:
    """16 x 8 by mma.sync from packed words; `short` takes half of the depth at a time."""
    depth = (128 if short else 256) // BITS[a]
    left, right = values(1, (16, 3 * depth), a), values(2, (8, 3 * depth), b)
    if total == "f16":  # whose sums are exact up to 2048
        left, right = left.round().clip(-4, 4), right.round().clip(-4, 4)
    words = packed(left, a).shape[1]
    names = {"DEPTH": depth, "LEFT": a, "RIGHT": b, "SUM": "u32" if total == "f16" else total,
             "REGISTERS": 2 if total == "f16" else 4, "SHORT": int(short)}  # fmt: skip
    head = "".join(f"#define {name} {value}\n" for name, value in names.items())
    lane, i = np.indices((32, 4))
    c = kernels.blank((32, 4), C_TYPES[total])
    return Case(
        f'{head}#line 1\n{kernels.source("product")}', "product", (1,), (32,),
        {"a": packed(left, a), "b": packed(right, b), "c": c, "words": words}, c,
        (left @ right.T)[lane // 4 + 8 * (i // 2), lane % 4 * 2 + i % 2].astype(c.dtype),
        targets=("sm_89", "sm_90a", "sm_100a") if BITS[a] == 8 and a in FLOATS else kernels.EVERY,
    )  # fmt: skip


PRODUCTS = {
    f"{a} {b}{' short' if short else ''}": product(a, b, sum_of(a), short)
    for a, b in PAIRS
    for short in (False, True)
    if not (short and a in ("e4m3", "e5m2"))
} | {f"f16 sums{' short' * short}": product("f16", "f16", "f16", short) for short in (False, True)}


def swizzle(places: Array, width: int) -> Array:
    """XOR of the column of 16 bytes with the number of the line among eight."""
    return places ^ (places >> 3 & {16: 0, 32: 0x10, 64: 0x30, 128: 0x70}[width])


def places(rows: int, element: str, mn: bool, width: int) -> tuple[Array, int, int, int]:
    """Byte of every element [row, k] of an operand, its leading and stride bytes, and its size.

    The strides are those of CuTe's canonical layouts, atoms along M or N before those along K.
    """
    row, k = np.indices((rows, DEPTHS[element]))
    size = max(BITS[element] // 8, 1)
    if not mn:
        column = k * BITS[element] // 8
        leading, stride = (128, 256) if width == 16 else (16, 8 * width)
        if width == 16:
            offsets = row // 8 * stride + column // 16 * leading + row % 8 * 16 + column % 16
        else:
            offsets = row // 8 * stride + row % 8 * width + column
        return swizzle(offsets, width), leading, stride, -(-rows // 8) * max(256, 8 * width)
    run, line = row * size // width, row * size % width
    along, across = (8 * width * -(-rows * size // width), 8 * width)
    offsets = run * across + line + k // 8 * along + k % 8 * width
    leading, stride = (along, across) if width == 16 else (across, along)
    return swizzle(offsets, width), leading, stride, 2 * along


def image(numbers: Array, element: str, where: Array, size: int) -> Array:
    """Shared memory with an operand in it; the bytes between are poison."""
    out = np.full(size, 0xFF, "u1")
    if element == "b1":
        out[where[:, ::8].ravel()] = packed(numbers, element).view("u1").ravel()
        return out
    bits = packed(numbers, element).view("u1").reshape(*where.shape, -1)
    for byte in range(bits.shape[-1]):
        out[where + byte] = bits[..., byte]
    return out


def layout(n: int, a: str, b: str, mn: tuple[bool, bool], widths: tuple[int, int]) -> Case:
    """64 x n by one wgmma, the operands K-major or MN-major with swizzles of these widths."""
    depth, total = DEPTHS[a], sum_of(a)
    left, right = values(1, (64, depth), a), values(2, (n, depth), b)
    codes = {16: 0, 128: 1, 64: 2, 32: 3}
    images: list[Array] = []
    descriptors: list[int] = []
    for numbers, element, m, width in ((left, a, mn[0], widths[0]), (right, b, mn[1], widths[1])):
        where, leading, stride, size = places(numbers.shape[0], element, m, width)
        start = sum(len(part) for part in images)
        descriptors.append(start >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | codes[width] << 62)
        images.append(image(numbers, element, where, -(-size // 1024) * 1024))
    whole = np.concatenate(images)
    shape = Wgmma(n, a, b, total, a_mn=mn[0], b_mn=mn[1])
    thread, i = np.indices((128, n // 2))
    rows = thread // 32 * 16 + thread % 32 // 4 + 8 * (i // 2 % 2)
    columns = i // 4 * 8 + thread % 4 * 2 + i % 2
    start = kernels.integers(3, (64, n), C_TYPES[total])[rows, columns].copy()
    d = kernels.blank((128, n // 2), C_TYPES[total])
    names = {"N": n, "LEFT": a, "RIGHT": b, "SUM": total, "REGISTERS": n // 2,
             "A_MN": int(mn[0]), "B_MN": int(mn[1])}  # fmt: skip
    head = "".join(f"#define {name} {value}\n" for name, value in names.items())
    return Case(
        f'{head}#line 1\n{kernels.source("layout")}', "layout", (1,), (128,),
        {"image": whole.view("u4"), "words": len(whole) // 4, "a": descriptors[0],
         "b": descriptors[1], "start": start, "d": d},
        d, start + (left @ right.T)[rows, columns].astype(d.dtype), len(whole), ("sm_90a",),
        (shape,),
    )  # fmt: skip


K_MAJOR = (False, False)
LAYOUTS = {
    f"{n} {a} {b} {mn} {widths}": layout(n, a, b, mn, widths)
    for n, a, b, mn, widths in [
        *((64, "f16", "f16", K_MAJOR, (w, w)) for w in (16, 32, 64, 128)),
        *((64, "bf16", "bf16", (True, True), (w, w)) for w in (16, 32, 64, 128)),
        (128, "f16", "f16", (False, True), (128, 128)),
        (96, "f16", "f16", (True, False), (64, 32)),
        (8, "f16", "f16", (False, True), (128, 16)),
        (256, "bf16", "bf16", K_MAJOR, (128, 128)),
        (136, "tf32", "tf32", K_MAJOR, (128, 64)),
        (24, "e4m3", "e5m2", K_MAJOR, (128, 32)),
        (64, "e5m2", "e4m3", K_MAJOR, (64, 16)),
        (64, "s8", "s8", K_MAJOR, (128, 128)),
        (32, "u8", "s8", K_MAJOR, (32, 64)),
        (16, "b1", "b1", K_MAJOR, (128, 16)),
    ]
}
