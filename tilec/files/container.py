"""The safetensors container: named arrays of every dtype that numpy and ml_dtypes have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ml_dtypes
import numpy as np
import safetensors
from safetensors import SafetensorError, TensorSpec, serialize_file

from tilec.ir.dtype import Array
from tilec.ir.errors import TileError

DTYPES = {
    "BOOL": "bool", "I8": "int8", "U8": "uint8", "I16": "int16", "U16": "uint16", "I32": "int32",
    "U32": "uint32", "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16",
    "F32": "float32", "F64": "float64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """What a file says of one tensor."""

    dtype: str  # numpy's name
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Container:
    """The tensors that a file has, without their data, and its texts."""

    name: str
    tensors: dict[str, Stored]
    metadata: dict[str, str] | None


def read(path: Path) -> tuple[Container, dict[str, Array]]:
    """A file's description and its arrays. Raises TileError for what is no whole safetensors."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise TileError(f"{path}: can't be read: {e.strerror}") from e
    try:
        found: list[tuple[str, dict[str, Any]]] = cast(Any, safetensors).deserialize(data)
    except SafetensorError as e:
        raise TileError(f"{path}: {e}; expected a whole safetensors file, not {len(data)} "
                        "bytes that are truncated or something else") from e  # fmt: skip
    arrays = {
        name: _array(path, name, tensor) for name, tensor in sorted(found, key=lambda t: t[0])
    }
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    stored = {n: Stored(a.dtype.name, a.shape) for n, a in arrays.items()}
    return Container(path.name, stored, header.get("__metadata__")), arrays


def _array(path: Path, name: str, tensor: dict[str, Any]) -> Array:
    if tensor["dtype"] not in DTYPES:
        raise TileError(f"{path}: tensor {name} is {tensor['dtype']}, expected one of "
                        f"{', '.join(DTYPES)}")  # fmt: skip
    dtype = DTYPES[tensor["dtype"]]
    return np.frombuffer(tensor["data"], getattr(ml_dtypes, dtype, dtype)).reshape(tensor["shape"])


def write(path: Path, arrays: dict[str, Array], metadata: dict[str, str] | None) -> None:
    """Write arrays as a safetensors file."""
    whole = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}
    tensors = {name: TensorSpec(dtype=a.dtype.name, shape=list(a.shape),
                                data_ptr=a.ctypes.data, data_len=a.nbytes)
               for name, a in whole.items()}  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        serialize_file(tensors, path, metadata=metadata)
    except OSError as e:
        raise TileError(f"{path}: can't be written: {e.strerror}") from e
    except SafetensorError as e:
        raise TileError(f"{path}: can't be written: {e}") from e
