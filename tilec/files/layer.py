"""A quantised layer: its tensors as a file stores them, and as numbers of a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from tilec.ir.bits import raw
from tilec.ir.composed import Permuted, part, permuted
from tilec.ir.dtype import Array, DType, of_numpy
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.granularity import CHANNEL, TENSOR, Granularity
from tilec.ir.scaled import Parts, Scaled, Zero
from tilec.runtime.tensor import PackedTensor, packed

SCALES = ("float16", "bfloat16", "float32")
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Layer:
    """The tensors of a layer by the ends of their names, and the file's quantization_config."""

    file: str
    name: str
    tensors: Mapping[str, Array]
    options: Options

    def error(self, found: str, expected: str) -> TileError:
        """An error that names the file, the layer, what is, and what was expected."""
        return TileError(f"{self.file}: layer {self.name}: {found}; expected {expected}")

    def tensor(self, end: str, dtypes: tuple[str, ...], *shape: int | None) -> Array:
        """The tensor of that name, of one of these dtypes and this shape; None is any size."""
        if end not in self.tensors:
            others = ", ".join(f"`.{name}`" for name in self.tensors)
            raise self.error(f"there is no `.{end}`", f"one beside {others}")
        a = self.tensors[end]
        if a.dtype.name not in dtypes:
            raise self.error(f"`.{end}` is {a.dtype.name}", " or ".join(dtypes))
        fits = a.ndim == len(shape) and all(
            want in (None, size) for size, want in zip(a.shape, shape, strict=True)
        )
        if not fits or a.size == 0:
            sizes = ", ".join("any" if want is None else str(want) for want in shape)
            raise self.error(f"`.{end}` has shape {list(a.shape)}", f"[{sizes}] with elements")
        return a

    def scales(self, end: str, dtypes: tuple[str, ...] = SCALES) -> Array:
        """The tensor of that name, of one of these dtypes and any shape."""
        rank = self.tensors[end].ndim if end in self.tensors else 0
        return self.tensor(end, dtypes, *[None] * rank)

    def number(self, *keys: str) -> int | None:
        """The whole number of quantization_config under one of these keys, if there is one."""
        for key in keys:
            value = self.options.get(key)
            if value is not None:
                if not isinstance(value, int) or isinstance(value, bool):
                    raise self.error(f"quantization_config has {key} = {value!r}", "a whole number")
                return value
        return None

    def order(self, end: str, k: int, block: Granularity) -> tuple[dict[str, Array], Array | None]:
        """The tensor of the groups of columns, if there is one, and the order in which groups have
        their columns beside one another, where that is not the order of the columns (act-order)."""
        if end not in self.tensors:
            return {}, None
        groups, size = self.tensor(end, ("int32", "int64"), k), block.columns or k
        if np.array_equal(groups, np.arange(k) // size):
            return {end: groups}, None
        order = np.argsort(groups, kind="stable")
        if not np.array_equal(groups[order], np.arange(k) // size):
            raise self.error(f"`.{end}` has groups of other sizes", f"{size} columns a group")
        return {end: groups}, order


def group_block(layer: Layer, k: int, groups: int, sizes: set[int]) -> Granularity:
    """The blocks of rows of k columns in that many groups, of one of the sizes the config says."""
    fitting = {s for s in sizes if (s == -1 and groups == 1) or (s > 0 and -(-k // s) == groups)}
    if not sizes and k % groups == 0:
        return Granularity(k // groups) if groups > 1 else CHANNEL
    if groups == 1 and len(fitting) > 1:
        return CHANNEL
    if len(fitting) != 1:
        said = f"the group size {', '.join(map(str, sorted(sizes)))}" if sizes else "equal groups"
        raise layer.error(
            f"{k} columns have {groups} scales a row", f"one scale a group, of {said}"
        )
    size = fitting.pop()
    return CHANNEL if size == -1 else Granularity(size)


def scale_block(layer: Layer, scale: Array, n: int, k: int, sizes: set[int]) -> Granularity:
    """The blocks of a matrix [n, k] whose scales have this shape."""
    if scale.size == 1:
        return TENSOR
    if scale.shape in ((n,), (n, 1)):
        return CHANNEL
    if scale.ndim == 2 and len(scale) == n:
        return group_block(layer, k, scale.shape[1], {s for s in sizes if s > 0})
    rows, columns = _config_block(layer)
    if scale.shape == (-(-n // rows), -(-k // columns)):
        return Granularity(columns, rows)
    raise layer.error(f"the scales of [{n}, {k}] have shape {list(scale.shape)}",
                      f"one scale, one a row, one a group, or one a block of {rows} x {columns}"
                      )  # fmt: skip


def _config_block(layer: Layer) -> tuple[int, int]:
    found = [layer.options.get("weight_block_size")]
    found += [w.get("block_structure") for w in config_weights(layer.options)]
    for size in found:
        match size:
            case [int(rows), int(columns)] if rows > 0 and columns > 0:
                return rows, columns
            case _:
                pass
    return 128, 128


def config_weights(options: Options) -> list[Options]:
    """How compressed-tensors' quantization_config says that weights are stored, for each group."""
    groups = options.get("config_groups")
    if not isinstance(groups, dict):
        return []
    found = [cast(Any, g).get("weights") for g in cast(Any, groups).values() if isinstance(g, dict)]
    return [cast(Options, w) for w in found if isinstance(w, dict)]


def config_numbers(options: Options, key: str) -> set[int]:
    """The numbers that compressed-tensors' quantization_config has under a key of its weights."""
    return {w[key] for w in config_weights(options) if isinstance(w.get(key), int)}


@dataclass(frozen=True)
class Quantised:
    """A layer's numbers in a format, and those of its tensors that are no numbers of it."""

    weight: PackedTensor
    kept: dict[str, Array] = field(default_factory=dict[str, Array])


def quantised(codes: DType, block: Granularity, shape: tuple[int, int], parts: Parts,
              zero: Zero = "none", kept: dict[str, Array] | None = None) -> Quantised:  # fmt: skip
    """A layer of codes with plain scales, as the file has them, for each block."""
    scale = parts["scale"]
    t = of_numpy(scale.dtype)
    format = Scaled(codes, block, Dense(t), zero)
    blocks = tuple(int(str(d)) for d in block.shape(shape))
    numbers = {"scale": t.from_storage(scale).reshape(blocks)}
    if "zero" in parts:
        numbers["zero"] = parts["zero"].astype(np.int64).reshape(blocks)
    return Quantised(packed(format, parts | numbers, shape), kept or {})


def ordered(found: Quantised, order: Array | None) -> Quantised:
    """A layer whose columns were put into an order, as a permuted weight."""
    if order is None:
        return found
    weight = found.weight
    parts = permuted(order.astype(np.int64), weight.parts())
    return replace(found, weight=packed(Permuted(weight.format), parts, weight.shape))


def stored(weight: PackedTensor) -> dict[str, Array]:
    """The components of a weight as elements in memory, columns in the order of the tensor: codes
    as their bits, in bytes."""
    parts = weight.parts()
    if isinstance(weight.format, Permuted):
        place, parts = parts["place"], part(parts, "0")
        parts["codes"] = parts["codes"][:, place]
    return {c.name: raw(c.dtype, parts[c.name]) if c.dtype.bits <= 8
            else c.dtype.to_storage(parts[c.name])
            for c in scaled_format(weight).components(weight.shape)}  # fmt: skip


def scaled_format(weight: PackedTensor) -> Scaled:
    """The format of a weight that was loaded, in whatever order its columns are."""
    format = weight.format.inner if isinstance(weight.format, Permuted) else weight.format
    if not isinstance(format, Scaled):
        raise TileError(f"expected a weight in a scaled format, not {weight.format}")
    return format


Reader = Callable[[Layer], Quantised]
Writer = Callable[[PackedTensor, Options], dict[str, Array]]
