"""torch's norms, activations and losses, as they are and compiled."""

# torch types what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilec.bench.gpu.contender import Contender, Parts
from tilec.bench.gpu.held import Operands
from tilec.ir.errors import TileError


def _rms(o: Operands, x: Any, gain: Any) -> Any:
    shape = (x.shape[-1],)
    return o.torch.nn.functional.rms_norm(x, shape, gain, o.case.numbers["eps"])


def _codes(o: Operands, y: Any, eight: bool) -> Any:
    torch = o.torch
    wide = y.float()
    scale = wide.abs().amax(1, keepdim=True) / (448.0 if eight else 127.0)
    codes = wide / scale
    return (codes.to(torch.float8_e4m3fn) if eight else codes.round().to(torch.int8)), scale


def function(o: Operands) -> tuple[Callable[..., Any], list[Any]]:
    """What the case computes, in torch's words, and its arguments. Raises TileError for a case
    that it has no words for."""
    functional, name = o.torch.nn.functional, o.case.name
    if name.startswith("rms norm"):
        given = [o.dense(n, "bfloat16") for n in ("x", "gain")]
        if "fp8" in name or "int8" in name:
            return (lambda x, gain: _codes(o, _rms(o, x, gain), "fp8" in name)), given
        return (lambda x, gain: _rms(o, x, gain)), given
    if name.startswith("swiglu"):
        given = [o.dense(n, "bfloat16") for n in ("gate", "up")]
        if "fp8" in name:
            return (lambda gate, up: _codes(o, functional.silu(gate.float()) * up, True)), given
        return (lambda gate, up: functional.silu(gate) * up), given
    if name.startswith("softmax"):
        return (lambda x: functional.softmax(x, -1)), [o.dense("x", "bfloat16")]
    if name.startswith("cross entropy"):
        given = [o.dense("logits", "bfloat16"), o.held["target"].tensor.long()]
        return (lambda z, at: functional.cross_entropy(z.float(), at, reduction="none")), given
    raise TileError("torch has no function of that name")


def got(o: Operands, found: Any) -> Parts:
    """The parts of a result that are compared; of codes and scales, what they stand for."""
    if not isinstance(found, tuple):
        return {"result": o.part("result", found)}
    codes, scale = found
    return {"result0*result1": o.part("result0", codes.float() * scale)}


def _contender(o: Operands, name: str, call: Callable[..., Any], given: list[Any]) -> Contender:
    case = o.case
    return Contender(name, [lambda: call(*given)], lambda y: got(o, y), max(case.near, 2e-2),
                     case.bytes, case.operations)  # fmt: skip


def eager(o: Operands) -> Contender:
    """One kernel after the other."""
    call, given = function(o)
    return _contender(o, "torch eager", call, given)


def compiled(o: Operands) -> Contender:
    """By torch.compile."""
    call, given = function(o)
    return _contender(o, "torch compiled", o.torch.compile(call), given)
