"""State dicts of quantised modules: plain tensors and text, saved by anything that saves tensors.

A module's quantised `weight` is saved as `weight.stored` (bytes), `weight.form` (the text that says
what they mean, as bytes) and, where there is one, `weight.divisor`. Nothing is pickled, so that
safetensors holds it. A state dict that was not quantised does not load into a quantised model:
rounding is said by `quantize_`, never done by loading.
"""

# torch's functions have types of their own making.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from tilec.ir.bits import LINE
from tilec.ir.errors import TileError
from tilec.torch.form import check, form_of, form_on
from tilec.torch.tensor import QuantizedTensor

WEIGHT, FORM, STORED, DIVISOR = "weight", "weight.form", "weight.stored", "weight.divisor"
State = dict[str, Any]


def modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model by name, each once."""
    return dict(cast("Iterable[tuple[str, nn.Module]]", model.named_modules()))


def holders(model: nn.Module, weight: Tensor) -> dict[str, nn.Module]:
    """The modules whose `weight` this very tensor is, by name: more than one if it is tied."""
    return {name: m for name, m in modules(model).items() if getattr(m, WEIGHT, None) is weight}


def hold(owners: Mapping[str, nn.Module], weight: QuantizedTensor) -> None:
    """Make a quantised tensor the weight of modules, which then save and load it."""
    parameter = nn.Parameter(weight, requires_grad=False)
    for module in owners.values():
        if not isinstance(module.weight, QuantizedTensor):
            module.register_state_dict_post_hook(_save)
            module.register_load_state_dict_pre_hook(_load)
        module.weight = parameter


def load_(model: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Load a state dict with quantised weights, into layers that are not quantised yet, too.

    Raises TileError where the shapes differ, and RuntimeError as `load_state_dict` does.
    """
    for key in state:
        name, end, rest = key.rpartition(FORM)
        if not end or rest or not (not name or name.endswith(".")):
            continue
        module = model.get_submodule(name.removesuffix("."))
        weight = module.weight
        form = _text(state[key])
        if not isinstance(weight, Tensor) or tuple(weight.shape) != form_of(form).shape:
            raise TileError(f"{name}{WEIGHT} is {list(getattr(weight, 'shape', []))}, "
                            f"and the state dict has {form}")  # fmt: skip
        device = torch.device("cpu") if weight.is_meta else weight.device
        form = form_on(form, device.type)
        if isinstance(weight, QuantizedTensor) and weight.form == form:
            continue
        stored = torch.zeros(form_of(form).nbytes, dtype=torch.uint8, device=device)
        divisor = state.get(name + DIVISOR)
        if divisor is not None:
            divisor = torch.empty_like(divisor, device=device)
        made = QuantizedTensor(stored, form, weight.dtype, divisor)
        hold(holders(model, weight), made)
    model.load_state_dict(dict(state), strict=strict)


def _save(module: nn.Module, state: State, prefix: str, metadata: object) -> None:
    """Tensors and text in the place of a quantised weight."""
    weight = state.pop(prefix + WEIGHT, None)
    if weight is None:
        return
    assert isinstance(weight, QuantizedTensor)
    text = torch.frombuffer(bytearray(weight.form.encode()), dtype=torch.uint8)
    state |= {prefix + STORED: weight.stored, prefix + FORM: text}
    if weight.divisor is not None:
        state[prefix + DIVISOR] = weight.divisor


def _load(module: nn.Module, state: State, prefix: str, metadata: object, strict: bool,
          missing: list[str], unexpected: list[str], errors: list[str]) -> None:  # fmt: skip
    """A quantised weight again; what does not fit is one of the errors."""
    own = module.weight
    assert isinstance(own, QuantizedTensor)
    found = {key: state.pop(prefix + key) for key in (WEIGHT, STORED, FORM, DIVISOR)
             if prefix + key in state}  # fmt: skip
    if not found:
        return  # missing, as any other parameter would be
    state[prefix + WEIGHT] = own
    if WEIGHT in found:
        errors.append(f"{prefix}weight is quantised to {own.format}, and the state dict has "
                      f"{_said(found[WEIGHT])}: load it before quantize_")  # fmt: skip
        return
    if absent := {STORED, FORM} - found.keys():
        errors.append(f"the state dict has no {prefix}{absent.pop()}")
        return
    form, kind = _text(found[FORM]), own.device.type
    like = (form_on(form, kind), DIVISOR in found), (own.form, own.divisor is not None)
    if like[0] != like[1]:
        errors.append(f"{prefix}weight is {own.form}, and the state dict has {form}: "
                      "tilec.torch.load_ takes the formats of the state dict")  # fmt: skip
        return
    stored = found[STORED]
    stored = stored.clone() if stored.data_ptr() % LINE else stored
    try:
        check(stored.cpu(), form)
    except TileError as e:
        errors.append(f"{prefix}weight: {e}")
        return
    given = QuantizedTensor(stored, form, own.dtype, found.get(DIVISOR))
    state[prefix + WEIGHT] = given if form == own.form else given.placed(own.device)


def _text(form: Tensor) -> str:
    return bytes(form.cpu().numpy()).decode()


def _said(weight: Tensor) -> str:
    return f"{str(weight.dtype).removeprefix('torch.')}{list(weight.shape)}"
