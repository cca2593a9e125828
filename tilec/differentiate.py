"""Gradients of kernels and programs of whole tensors, as definitions that compile like these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tilec.ir.core import Func, Value
from tilec.ir.dtype import DType, f32
from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format
from tilec.ir.types import Memory
from tilec.lang.kernel import Definition, Parameter, Signature, TensorSpec
from tilec.lang.programs import ProgramDefinition
from tilec.passes.gradient import gradient

Types = Mapping[str, Format | DType]


@dataclass(frozen=True)
class Gradient(Definition):
    """The gradients of a definition: what it takes, `d_y` for each of its results, `d_x` to fill.

    `options` are those of the pass `gradient`.
    """

    source: Definition
    options: Mapping[str, str | bool]

    def ir(self, types: Types | None = None) -> Func:
        """The gradients as IR, for the formats of the tensors that the signature leaves open.

        A result has the format of its gradient. Raises TileError where an input has another one.
        """
        given = dict(types or {})
        formats = {p.name: given.get(f"d_{p.name}", given.get(p.name)) or _open(p)
                   for p in self.source.signature.params}  # fmt: skip
        formats |= {n: t for n, t in given.items() if n in formats}
        func = _func(self.source, formats, self.options)
        for p in func.params:
            found = given.get(p.hint)
            found = Dense(found) if isinstance(found, DType) else found
            if isinstance(p.type, Memory) and found not in (None, p.type.format):
                raise TileError(f"{self.signature.name}: `{p.hint}` is {found}, "
                                f"expected {p.type.format}")  # fmt: skip
        return func


def differentiate(
    definition: Definition, results: Sequence[str], inputs: Sequence[str],
    keep: Sequence[str] = (), apart: Sequence[Sequence[str]] = (), rounded: bool = False,
) -> Gradient:  # fmt: skip
    """The gradients of `inputs` from those of `results`, by name (`passes.gradient`).

    `keep` are results that it takes, as the definition left them, and does not compute again.
    `apart` are inputs, in groups, for each of which everything else is computed again: their
    gradients come last. Formats that are open are tried as f32. Raises TileError at an op that has
    no derivative.
    """
    last = {name for group in apart for name in group}
    groups = ["+".join(n for n in inputs if n not in last), *map("+".join, apart)]
    options: dict[str, str | bool] = {
        "of": "+".join(results), "by": ",".join(filter(None, groups)), "keep": "+".join(keep),
        "rounded": rounded,
    }  # fmt: skip
    own = {p.name: p for p in definition.signature.params}
    func = _func(definition, {name: _open(p) for name, p in own.items()}, options)
    own |= _results(definition)
    params = tuple(_parameter(p, own) for p in func.params if "." not in p.hint)
    return Gradient(Signature(func.name, params), definition.function, definition, options)


def _results(definition: Definition) -> dict[str, Parameter]:
    """The parameters of what a program returns; their formats follow from those of its tensors."""
    if not isinstance(definition, ProgramDefinition):
        return {}
    known = definition.signature.params
    types = {p.name: t for p in known if (t := _open(p)) is not None}
    more = definition.called(types).signature.params[len(known) :]
    return {p.name: replace(p, spec=replace(p.spec, format=None)) if types else p
            for p in more if isinstance(p.spec, TensorSpec)}  # fmt: skip


def _func(source: Definition, formats: Mapping[str, Format | DType | None],
          options: Mapping[str, str | bool]) -> Func:  # fmt: skip
    known = {name: t for name, t in formats.items() if t is not None}
    return gradient(source.ir(known), **options)  # type: ignore[arg-type]


def _open(p: Parameter) -> Format | None:
    """The format of a tensor that nothing is said of; None for scalars, and where one is pinned."""
    return Dense(f32) if isinstance(p.spec, TensorSpec) and p.spec.format is None else None


def _parameter(p: Value, own: Mapping[str, Parameter]) -> Parameter:
    """A parameter of the gradients, from the one of the definition that it belongs to."""
    if p.hint in own:
        return own[p.hint]
    of = own[p.hint.removeprefix("d_")]
    if isinstance(of.spec, DType):
        return Parameter(p.hint, TensorSpec((1,), Dense(of.spec)), of.loc)
    return Parameter(p.hint, of.spec, of.loc)
