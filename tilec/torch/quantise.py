"""Models quantised in place, one weight after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.runtime.tensor import doubles
from tilec.torch.recipe import Recipes, Rounding, Rules, relative, rules_of
from tilec.torch.report import Report, Row
from tilec.torch.state import hold, holders, modules
from tilec.torch.tensor import QuantizedTensor

Kinds = tuple[type[nn.Module], ...]


@dataclass(frozen=True)
class _Layer:
    """A weight, the modules that have it, and how it is to be rounded."""

    weight: Tensor
    modules: dict[str, nn.Module]
    rounding: Rounding
    inputs: list[Tensor] = field(default_factory=list[Tensor])


def quantize_(model: nn.Module, recipe: Recipes, *, inputs: Iterable[Any] | None = None,
              samples: int = 512, kinds: Kinds = (nn.Linear,), progress: bool = True
              ) -> Report:  # fmt: skip
    """Store the weights of a model's linear layers in other formats, in place.

    `recipe` is a format or its text, a `Rounding`, or a mapping from names of layers to those: a
    name is a glob (`*.mlp.*`, where `*` passes dots) or a compiled regular expression that matches
    all of it; of several the first holds, None leaves a layer as it is, and so does no match.
    `inputs` are batches for calibration, each the argument of the model, a tuple of them, or a
    mapping by name; at most `samples` rows of what each layer gets are kept, spread evenly.
    `kinds` are the modules considered, those whose `weight` [N, K] is used by `linear` or
    `embedding`: add `nn.Embedding` to round tables. Tied weights stay tied, embeddings too.

    Weights stay on the device that they are on, the CPU or a GPU; the rounding is done by the CPU.

    Raises TileError, before anything changes, for a pattern that matches no layer, tied layers with
    different recipes, and a quantiser that lacks inputs. A weight that its format can't hold is
    left, and the report says why.
    """
    rules = rules_of(recipe)
    layers = _chosen(model, rules, kinds)
    if inputs is None and rules.need_inputs():
        raise TileError("quantize_: awq and gptq need inputs", hint="inputs=[batch, ...]")
    if inputs is not None:
        _calibrate(model, layers, inputs, samples)
    console = Console(stderr=True)
    bar = track(layers, "quantising", console=console, transient=True, disable=not progress)
    rows = tuple([_quantised(layer) for layer in bar])
    mine = {id(p) for layer in layers for m in layer.modules.values() for p in [m.weight]}
    rest = [*model.parameters(), *model.buffers()]
    return Report(rows, sum(t.nbytes for t in rest if id(t) not in mine))


def _chosen(model: nn.Module, rules: Rules, kinds: Kinds) -> list[_Layer]:
    """The weights to round. A tied weight is one, and its layers must agree."""
    found = {name: m for name, m in modules(model).items() if isinstance(m, kinds)}
    found = {name: m for name, m in found.items() if isinstance(m.weight, nn.Parameter)}
    rules.check(list(found), ", ".join(k.__name__ for k in kinds))
    layers: list[_Layer] = []
    seen: dict[int, tuple[str, Rounding | None]] = {}
    for name, module in found.items():
        _, rounding = rules.match(name)
        weight = module.weight
        assert isinstance(weight, Tensor)
        if id(weight) in seen:
            other, had = seen[id(weight)]
            if had != rounding:
                raise TileError(f"quantize_: {other} and {name} have one weight, but the recipe "
                                f"says {_said(had)} and {_said(rounding)}")  # fmt: skip
            continue
        seen[id(weight)] = name, rounding
        if isinstance(weight, QuantizedTensor) and rounding is not None:
            raise TileError(f"quantize_: {name} is quantised to {weight.format} already")
        if rounding is not None:
            layers.append(_Layer(weight, holders(model, weight), rounding))
    return layers


def _said(rounding: Rounding | None) -> str:
    return "to leave it" if rounding is None else f"{rounding.format} by {rounding.method}"


def _quantised(layer: _Layer) -> Row:
    """Round a weight and put it in its place, or say why not."""
    weight, names = layer.weight, tuple(layer.modules)
    size = weight.nbytes
    left = Row(names, tuple(weight.shape), size, size)
    if weight.device.type not in ("cpu", "cuda") or not weight.dtype.is_floating_point:
        why = f"it is {weight.dtype} on {weight.device}; expected floats on the CPU or a GPU"
        return Row(names, left.shape, size, size, reason=why)
    given = torch.cat(layer.inputs).float() if layer.inputs else None
    dense = doubles(weight)
    try:
        packed, divisor = layer.rounding(weight, given)
        scale = None if divisor is None else torch.tensor(np.asarray(divisor), dtype=torch.float32)
        made = QuantizedTensor.of(packed, weight.dtype, scale)
        made = made if weight.is_cpu else made.placed(weight.device)
        _try(made, layer.modules)
    except TileError as e:
        return Row(names, left.shape, size, size, reason=str(e).splitlines()[0])
    hold(layer.modules, made)
    values = packed.dequantize() / (1 if divisor is None else divisor)
    return Row(names, left.shape, size, made.bytes_stored, str(packed.format),
               layer.rounding.method, relative(values, dense), _output_error(values, dense, given)
               )  # fmt: skip


def _try(weight: QuantizedTensor, owners: Mapping[str, nn.Module]) -> None:
    """Raises TileError where no kernel does what the layers need, for one row: not every format has
    rows that can be read by index."""
    for module in owners.values():
        if isinstance(module, nn.Embedding):
            functional.embedding(torch.zeros(1, dtype=torch.int64, device=weight.device), weight)
        else:
            x = torch.zeros(1, weight.shape[1], dtype=weight.dtype, device=weight.device)
            functional.linear(x, weight)


def _output_error(values: Array, dense: Array, inputs: Tensor | None) -> float | None:
    if inputs is None:
        return None
    x = doubles(inputs)
    return relative(x @ values.T, x @ dense.T)


def _calibrate(model: nn.Module, layers: list[_Layer], inputs: Iterable[Any], samples: int
               ) -> None:  # fmt: skip
    """Run the model, and keep rows of what its layers get."""
    batches = list(inputs)
    most = max(1, samples // max(len(batches), 1))
    hooks = [module.register_forward_pre_hook(_keeper(layer.inputs, most))
             for layer in layers for module in layer.modules.values()]  # fmt: skip
    try:
        with torch.no_grad():
            for batch in batches:
                _call(model, batch)
    finally:
        for hook in hooks:
            hook.remove()


def _keeper(kept: list[Tensor], most: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        if not args or not args[0].dtype.is_floating_point:
            return  # ids of an embedding
        rows = args[0].detach().reshape(-1, args[0].shape[-1])
        even = torch.linspace(0, len(rows) - 1, min(most, len(rows))).round().long()
        kept.append(rows[even].clone())

    return keep


def _call(model: nn.Module, batch: Any) -> None:
    match batch:
        case Mapping():
            model(**batch)
        case tuple() | list():
            model(*batch)
        case _:
            model(batch)
