"""GGUF files: tensors in llama.cpp's block types as packed tensors and back, bit for bit.

The `gguf` package reads and writes the file around the tensors; their blocks are described in
`tilec.files.ggml_blocks`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFWriter, ReaderField

from tilec.files.ggml_blocks import BLOCKS
from tilec.ir.dtype import Array, bf16, f16, f32, f64, i8, i16, i32, i64
from tilec.ir.errors import TileError
from tilec.ir.format import Format
from tilec.runtime.tensor import PackedTensor, packed

DENSE = {t.name.upper(): t.numpy for t in (f32, f16, bf16, f64, i8, i16, i32, i64)}
KNOWN = (*DENSE, *(name for name in BLOCKS if name in GGMLQuantizationType.__members__))
MOST_DIMENSIONS = 4
_UNREADABLE = (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError)
FilePath = str | os.PathLike[str]


def load(path: FilePath) -> dict[str, PackedTensor | Array]:
    """Every tensor of a file: quantised ones packed, in the format of the same meaning, others as
    arrays. A weight is [N, K]. Raises TileError for a file that is damaged or no GGUF file, and for
    tensors of a type that no format of tilec expresses."""
    with _blamed(path):
        return dict(_Reader(path).loaded())


def stored_types(path: FilePath) -> dict[str, str]:
    """The name of the GGUF type of every tensor of a file, known to tilec or not."""
    with _blamed(path):
        return {t.name: t.tensor_type.name for t in _Reader(path).tensors}


def save(path: FilePath, tensors: Mapping[str, PackedTensor | Array], architecture: str = "tilec",
         *, types: Mapping[str, str] | None = None) -> None:  # fmt: skip
    """Write packed tensors, each as the GGUF type of its format, and arrays as their dtype.

    `types` chooses the type of a tensor by its name where a format has two: what `stored_types`
    says of a file writes its tensors as they were. Without it ternary tensors become TQ2_0. Raises
    TileError for what has no GGUF type; a file of that name is then left as it is.
    """
    chosen = types or {}
    with _blamed(path):
        ready = {name: _written(name, t, chosen.get(name)) for name, t in tensors.items()}
        # Under another name at first: a file of this name stays whole if this one can't be written.
        part = Path(path).with_name(f"{Path(path).name}.part")
        try:
            _write(part, ready, architecture)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _blamed(path: FilePath) -> Generator[None]:
    """Name the file in errors, and make one of every other that a bad file can cause."""
    name = os.fspath(path)
    try:
        yield
    except TileError as e:
        raise TileError(f"{name}: {e.message}", hint=e.hint) from e
    except OSError as e:
        raise TileError(f"{name}: {e.strerror or e}") from e


class _Reader(GGUFReader):
    """The library's reader, which is stopped where a file ends or its tensors can't be right."""

    def __init__(self, path: FilePath) -> None:
        with open(path, "rb") as file:
            start = file.read(4)
        if start != b"GGUF":
            raise TileError(f"no GGUF file: it begins with {start!r}, not b'GGUF'")
        try:
            super().__init__(path)
        except _UNREADABLE as e:
            raise TileError(f"no readable GGUF file: {e}") from e

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Array:
        end = int(offset) + int(count) * np.dtype(dtype).itemsize
        if end > len(self.data):
            raise TileError(f"the file is truncated or damaged: it has {len(self.data)} bytes, "
                            f"and what is at byte {int(offset)} ends at {end}")  # fmt: skip
        return super()._get(offset, dtype, count, override_order)

    def _build_tensors(self, start_offs: int, fields: list[ReaderField]) -> None:
        if self.byte_order != "I":
            raise TileError("a file of big-endian numbers; tilec reads little-endian ones")
        expected = 0
        for field in fields:
            name, size, offset = _described(field)
            end = int(start_offs) + offset + size
            if offset != expected:
                raise TileError(f"tensor `{name}` is said to be at byte {offset} of the data, but "
                                f"the tensors before it end at {expected}")  # fmt: skip
            if end > len(self.data):
                raise TileError(f"the file is truncated: tensor `{name}` ends at byte {end} "
                                f"of {len(self.data)}")  # fmt: skip
            expected += -(-size // int(self.alignment)) * int(self.alignment)
        super()._build_tensors(start_offs, fields)

    def loaded(self) -> Iterator[tuple[str, PackedTensor | Array]]:
        """The tensors by name."""
        for t in self.tensors:
            shape = tuple(int(d) for d in reversed(t.shape.tolist()))
            stored = np.array(self.data[t.data_offset : t.data_offset + t.n_bytes])
            yield t.name, _read(t.name, t.tensor_type.name, shape, stored)


def _described(field: ReaderField) -> tuple[str, int, int]:
    """The name, bytes and offset of a tensor. Raises TileError if they contradict."""
    _, name_data, _, dims, code, offset = field.parts
    name = bytes(name_data).decode()
    if int(code[0]) not in {*GGMLQuantizationType}:
        raise TileError(f"tensor `{name}` has the unknown type {int(code[0])}; "
                        f"known types are {', '.join(KNOWN)}")  # fmt: skip
    t = GGMLQuantizationType(int(code[0]))
    elements, size = GGML_QUANT_SIZES[t]
    shape = [int(d) for d in reversed(dims.tolist())]
    if len(shape) > MOST_DIMENSIONS:
        raise TileError(f"tensor `{name}` has {len(shape)} dimensions, not at most 4")
    if (shape[-1] if shape else 1) % elements:
        raise TileError(f"tensor `{name}` of shape {shape}: {t.name} has blocks of {elements} "
                        "elements, and the last dimension is no multiple of that")  # fmt: skip
    return name, prod(shape) // elements * size, int(offset[0])


def _read(name: str, kind: str, shape: tuple[int, ...], stored: Array) -> PackedTensor | Array:
    """A tensor from its bytes."""
    if kind in DENSE:
        return stored.view(DENSE[kind]).reshape(shape)
    if kind not in BLOCKS:
        raise TileError(f"tensor `{name}` has the type {kind}, which no format of tilec expresses; "
                        f"known types are {', '.join(KNOWN)}")  # fmt: skip
    if 0 in shape:
        raise TileError(f"tensor `{name}` ({kind}) of shape {list(shape)} has no elements")
    block = BLOCKS[kind]
    blocks = stored.reshape(*shape[:-1], shape[-1] // block.elements, block.bytes)
    try:
        return packed(block.format, block.unpack(blocks), shape)
    except TileError as e:
        raise TileError(f"tensor `{name}` ({kind}): {e.message}", hint=e.hint) from e


def _written(name: str, tensor: PackedTensor | Array, kind: str | None) -> tuple[str, Array]:
    """The GGUF type of a tensor, and its rows as they are in a file."""
    if isinstance(tensor, PackedTensor):
        what, kinds, known = str(tensor.format), _kinds(tensor.format), _formats()
    else:
        tensor = np.asarray(tensor, order="C")
        what, kinds, known = (
            str(tensor.dtype),
            _kinds(tensor.dtype),
            [str(t) for t in DENSE.values()],
        )
    what = f"tensor `{name}` of {what}{list(tensor.shape)}"
    if not kinds:
        raise TileError(f"{what} has no GGUF type; those of {', '.join(known)} have")
    chosen = kind or kinds[0]
    if chosen not in kinds:
        raise TileError(f"{what} can't be stored as {kind}: expected {' or '.join(kinds)}")
    if len(tensor.shape) > MOST_DIMENSIONS:
        raise TileError(f"{what} has more than {MOST_DIMENSIONS} dimensions")
    if not isinstance(tensor, PackedTensor):
        return chosen, tensor
    block = BLOCKS[chosen]
    if tensor.shape[-1] % block.elements:
        raise TileError(f"{what}: {chosen} has blocks of {block.elements} elements, and the last "
                        "dimension is no multiple of that")  # fmt: skip
    try:
        return chosen, block.pack(tensor.parts()).reshape(*tensor.shape[:-1], -1)
    except TileError as e:
        raise TileError(f"{what}, as {chosen}: {e.message}", hint=e.hint) from e


def _kinds(of: Format | np.dtype[Any]) -> list[str]:
    """The GGUF types of a format or dtype, the default first."""
    if isinstance(of, Format):
        return [kind for kind in BLOCKS if BLOCKS[kind].format == of and kind in KNOWN]
    return [kind for kind, t in DENSE.items() if t == of]


def _formats() -> list[str]:
    """The formats that have a GGUF type."""
    return list(dict.fromkeys(BLOCKS[kind].published for kind in KNOWN if kind in BLOCKS))


def _write(path: Path, ready: dict[str, tuple[str, Array]], architecture: str) -> None:
    writer = GGUFWriter(path, architecture)
    try:
        for name, (kind, rows) in ready.items():
            writer.add_tensor(name, rows, raw_dtype=GGMLQuantizationType[kind])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
