"""Checkpoints by the published rules, packed value by value in loops, and files by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

Tensors = dict[str, np.ndarray]
DTYPES = {"I8": "int8", "U8": "uint8", "I32": "int32", "I64": "int64", "F16": "float16",
          "BF16": "bfloat16", "F32": "float32", "F8_E4M3": "float8_e4m3fn",
          "BOOL": "bool"}  # fmt: skip
NAMES = {v: k for k, v in DTYPES.items()}
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
       0.7229568362236023, 1.0]  # fmt: skip
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def write_file(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> None:
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, a in tensors.items():
        end = len(data) + a.nbytes
        header[name] = {"dtype": NAMES[a.dtype.name], "shape": list(a.shape),
                        "data_offsets": [len(data), end]}  # fmt: skip
        data += np.ascontiguousarray(a).tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def read_file(path: Path) -> tuple[dict[str, tuple[str, list[int], bytes]], object]:
    """Type, shape and bytes of every tensor, and the metadata."""
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start])
    metadata = header.pop("__metadata__", None)
    found = {}
    for name, t in header.items():
        low, high = t["data_offsets"]
        found[name] = (t["dtype"], t["shape"], whole[start + low : start + high])
    return found, metadata


def write_folder(folder: Path, tensors: Tensors, config: dict | None) -> Path:
    folder.mkdir()
    write_file(folder / "model.safetensors", tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"quantization_config": config}))
    return folder


def signed(words: list[list[int]]) -> np.ndarray:
    return np.array(words, np.uint32).view(np.int32)


def gptq_words(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes [K, N] as words [K * bits / 32, N], in AutoGPTQ's own steps."""
    k, n = codes.shape
    rows: list[list[int]] = []
    for at in range(0, k, 32 if bits == 3 else 32 // bits):
        unit = [[0] * n for _ in range(3 if bits == 3 else 1)]
        for c in range(n):
            q = [int(v) for v in codes[at : at + (32 if bits == 3 else 32 // bits), c]]
            if bits != 3:
                unit[0][c] = sum(v << bits * j for j, v in enumerate(q))
                continue
            first = sum(q[j] << 3 * j for j in range(10)) | q[10] << 30
            second = q[10] >> 2 & 1 | sum(q[11 + j] << 3 * j + 1 for j in range(10)) | q[21] << 31
            third = q[21] >> 1 & 3 | sum(q[22 + j] << 3 * j + 2 for j in range(10))
            for i, word in enumerate((first, second, third)):
                unit[i][c] = word & 0xFFFFFFFF
        rows += unit
    return signed(rows)


def awq_words(codes: np.ndarray) -> np.ndarray:
    """Codes [R, N] as words [R, N / 8]."""
    rows = []
    for row in codes:
        words = []
        for at in range(0, len(row), 8):
            word = 0
            for nibble, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
                word |= int(row[at + column]) << 4 * nibble
            words.append(word)
        rows.append(words)
    return signed(rows)


def offset_words(values: np.ndarray, bits: int) -> np.ndarray:
    """compressed-tensors' words [R, ...] of signed values [R, C]."""
    per = 32 // bits
    rows = []
    for row in values:
        words = [0] * math.ceil(len(row) / per)
        for j, v in enumerate(row):
            words[j // per] |= (int(v) + (1 << bits - 1)) << bits * (j % per)
        rows.append(words)
    return signed(rows)


def numbers(seed: int, n: int, k: int, groups: int, bits: int, dtype: Any = np.float16):
    """Random codes [N, K], zeros [N, G] and scales [N, G]."""
    rng = np.random.default_rng(seed)
    q, z = (rng.integers(0, 1 << bits, s) for s in ((n, k), (n, groups)))
    return q, z, (rng.uniform(0.01, 0.2, (n, groups)) * rng.choice([-1, 1])).astype(dtype)


def spread(a: np.ndarray, group: int, k: int) -> np.ndarray:
    """A number of every group as a number of every column."""
    return np.array([[row[c // group] for c in range(k)] for row in a])


def exact(centred: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The rule of the integer formats: centred codes are exact, their product is rounded once."""
    return (centred.astype(np.float64) * scale.astype(np.float64)).astype(np.float32)


def gptq(q, z, s, bits: int, less: int = 1, order: np.ndarray | None = None) -> Tensors:
    """The tensors of a GPTQ layer."""
    stored = (z - less) % (1 << bits)
    out = {"qweight": gptq_words(q.T, bits), "scales": np.ascontiguousarray(s.T),
           "qzeros": np.ascontiguousarray(gptq_words(stored, bits).T)}  # fmt: skip
    return out if order is None else out | {"g_idx": order.astype(np.int32)}


def awq(q, z, s) -> Tensors:
    """The tensors of an AWQ layer."""
    return {"qweight": awq_words(q.T), "qzeros": awq_words(z.T), "scales": s.T.copy()}


def packed_quantised(q, z, s, bits: int) -> Tensors:
    """The tensors of a pack-quantized layer of signed values q, asymmetric where z is given."""
    out = {"weight_packed": offset_words(q, bits), "weight_scale": s,
           "weight_shape": np.array(q.shape, np.int64)}  # fmt: skip
    if z is not None:
        out["weight_zero_point"] = np.ascontiguousarray(offset_words(z.T, bits).T)
    return out


def nvfp4(codes: np.ndarray, scale: np.ndarray, divisor: float) -> Tensors:
    """The tensors of an nvfp4 layer: the even element in the low nibble."""
    n, k = codes.shape
    data = [[int(codes[i, j]) | int(codes[i, j + 1]) << 4 for j in range(0, k, 2)]
            for i in range(n)]  # fmt: skip
    return {"weight_packed": np.array(data, np.uint8), "weight_scale": scale,
            "weight_global_scale": np.array([divisor], np.float32)}  # fmt: skip


def nf4(codes: np.ndarray, absmax: np.ndarray, size: int, **state) -> Tensors:
    """The tensors of bitsandbytes' NF4: the first element in the high nibble."""
    flat = [int(c) for c in codes.reshape(-1)]
    data = [[flat[i] << 4 | flat[i + 1]] for i in range(0, len(flat), 2)]
    said = {"quant_type": "nf4", "blocksize": size, "dtype": "bfloat16",
            "shape": list(codes.shape)} | state  # fmt: skip
    text = np.frombuffer(json.dumps(said).encode(), np.uint8)
    return {"weight": np.array(data, np.uint8), "weight.absmax": absmax,
            "weight.quant_map": np.array(NF4, np.float32),
            "weight.quant_state.bitsandbytes__nf4": text}  # fmt: skip


def in_layer(tensors: Tensors, name: str = "model.layers.0.q_proj") -> Tensors:
    """A layer of that name among what other tensors a model has."""
    others = {"model.norm.weight": np.arange(8).astype(ml_dtypes.bfloat16),
              "lm_head.weight": np.arange(6, dtype=np.float16).reshape(2, 3),
              "flag": np.array(True), "none": np.zeros((0, 4), np.float32),
              f"{name}.bias": np.ones(4, np.float32)}  # fmt: skip
    return others | {f"{name}.{end}": a for end, a in tensors.items()}
