"""Gradients of kernels and programs of whole tensors, as definitions that compile like these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tilec.ir.core import Block, Func, Op, Value
from tilec.ir.dtype import DType, f32
from tilec.ir.errors import Loc, TileError
from tilec.ir.extent import Extent, mentioned, names, number
from tilec.ir.format import Dense, Format
from tilec.ir.ops.memory import Write
from tilec.ir.types import Memory, symbols
from tilec.lang.kernel import Definition, Parameter, Signature, TensorSpec, place
from tilec.lang.programs import ProgramDefinition
from tilec.passes import Step, run
from tilec.passes.canonicalize import canonicalize
from tilec.passes.gradient import gradient, saved

Types = Mapping[str, Format | DType]
TRIED = 200  # ops of gradients that are tried in two ways: more take longer than they may save


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
        return _agreed(_func(self.source, formats, self.options), given)


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


@dataclass(frozen=True)
class Written(Definition):
    """A function of IR as a definition, for tensors of its own formats alone."""

    func: Func

    def ir(self, types: Types | None = None) -> Func:
        """The function. Raises TileError for tensors of other formats."""
        return _agreed(self.func, types or {})


def _agreed(func: Func, types: Types) -> Func:
    """A function. Raises TileError where tensors are to have other formats than its own."""
    for p in func.params:
        found = types.get(p.hint)
        found = Dense(found) if isinstance(found, DType) else found
        if isinstance(p.type, Memory) and found not in (None, p.type.format):
            raise TileError(f"{func.name}: `{p.hint}` is {found}, expected {p.type.format}")
    return func


@dataclass(frozen=True)
class Training:
    """A program that is to be differentiated, and its gradients.

    `forward` takes what the program takes and writes its `results`, and behind them `saved`, few
    numbers that spare `backward` a pass over many. `backward` takes those of all these that it
    reads, `d_y` for each result of `of`, and fills `d_x` for each input: see its signature.
    """

    forward: Definition
    backward: Definition
    results: tuple[str, ...]
    of: tuple[str, ...]
    saved: tuple[str, ...]


def training(definition: ProgramDefinition, types: Types, dims: Mapping[str, int],
             inputs: Sequence[str]) -> Training:  # fmt: skip
    """A program and its gradients by `inputs`, for tensors of these formats.

    Gradients beside 16-bit floats are rounded to their dtype before products. `dims` decide what is
    computed again: where fewer bytes lie in memory for it, each row of inputs for itself. Raises
    TileError at an op that has no derivative, and where the program writes its arguments.
    """
    func = definition.ir(types)
    given = {p.name for p in definition.signature.params}
    for op in func.walk():
        if isinstance(op, Write) and op.mem.hint in given:
            raise TileError(f"{func.name} writes `{op.mem.hint}`, which is given to it, and is to "
                            "be differentiated", op.loc, "return the new values")  # fmt: skip
    results = [p for p in func.params if p.hint not in given and "." not in p.hint]
    of = tuple(p.hint for p in results if isinstance(p.type, Memory) and p.type.dtype.is_float)
    both = saved(func)
    options = {"of": "+".join(of), "keep": "+".join((*(p.hint for p in results), *both.names))}
    back = _smallest(both.source, inputs, options, dims)
    left = {p.hint for p in back.params}
    needed = tuple(n for n in both.names if n in left)
    forward = _without(both.forward, {n for n in both.names if n not in left})
    loc = place(definition.function.file, definition.function.lines, definition.function.tree)
    return Training(
        _written(forward, definition, loc), _written(back, definition, loc),
        tuple(p.hint for p in results), of, needed,
    )  # fmt: skip


def _smallest(source: Func, inputs: Sequence[str], options: Mapping[str, str],
              dims: Mapping[str, int]) -> Func:  # fmt: skip
    """The gradients of inputs together; or apart, those with rows of equal dimensions together,
    where that keeps less in memory, if the first keep half as much as all parameters have."""
    rows: dict[tuple[Extent, ...], list[str]] = {}
    for p in source.params:
        if p.hint in inputs:
            own = p.type.shape if isinstance(p.type, Memory) else ()
            rows.setdefault(own[:-1], []).append(p.hint)

    def made(by: str) -> Func:
        return _pruned(gradient(source, by=by, rounded=True, **options))

    back = made("+".join(inputs))
    given = sum(_bytes(p, dims) for p in back.params if "." not in p.hint)
    if len(rows) == 1 or len(back.body.ops) > TRIED or 2 * (kept := _kept(back, dims)) <= given:
        return back
    apart = made(",".join(map("+".join, rows.values())))
    return apart if _kept(apart, dims) < kept else back


def _kept(func: Func, dims: Mapping[str, int]) -> float:
    """The bytes of memory that kernels for a function need beside its parameters; infinity where
    it does not become kernels."""
    made = run((Step("specialise", dict(dims)), Step("fuse")), func)
    if not all(op.blocks for op in made.body.ops):
        return math.inf
    return sum(_bytes(p, dims) for p in made.params if "." in p.hint)


def _bytes(p: Value, dims: Mapping[str, int]) -> int:
    """The bytes of a dense tensor."""
    if not isinstance(p.type, Memory) or not isinstance(p.type.format, Dense):
        return 0
    return math.prod(number(n, dims) for n in p.type.shape) * p.type.dtype.numpy.itemsize


def _pruned(func: Func) -> Func:
    """A function without the parameters that it does not use, nor finds its dimensions by."""
    ops = list(func.walk())
    used = {v for op in ops for v in op.operands}
    wanted = {n for op in ops for n in _mentioned(op)}
    found = {n for p in func.params if p in used for d in symbols(p.type) for n in names(d)}
    params: list[Value] = []
    for p in func.params:
        own = {n for d in symbols(p.type) for n in names(d)}
        if p in used or not own.isdisjoint(wanted - found):
            params.append(p)
            found |= own
    return func.replaced(Block(tuple(params), func.body.ops, func.body.results))


def _mentioned(op: Op) -> frozenset[str]:
    inner = (names(d) for v in op.results for d in symbols(v.type))
    return mentioned(tuple(op.attributes.values())).union(*inner)


def _without(func: Func, left: set[str]) -> Func:
    """A function that does not store some of its results."""
    ops = tuple(op for op in func.body.ops
                if not (isinstance(op, Write) and op.mem.hint in left))  # fmt: skip
    params = tuple(p for p in func.params if p.hint not in left)
    return canonicalize(func.replaced(Block(params, ops, func.body.results)))


def _written(func: Func, source: Definition, loc: Loc) -> Written:
    params = tuple(Parameter(p.hint, _spec(p), loc) for p in func.params if "." not in p.hint)
    return Written(Signature(func.name, params), source.function, func)


def _spec(p: Value) -> TensorSpec | DType:
    if isinstance(p.type, Memory):
        return TensorSpec(p.type.shape, p.type.format)
    return p.type.dtype  # type: ignore[union-attr]
