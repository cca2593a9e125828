"""Kernels as decorated Python functions: their source is parsed, never run."""

# What a program names can be anything until it is looked at.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import ast
import builtins
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tilec.ir.dtype import DType, f32, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, extent
from tilec.ir.format import Dense, Format
from tilec.lang.builtins import BUILTINS
from tilec.lang.expressions import Builtin, Inline, Missing
from tilec.lang.kernel import Definition, Parameter, Signature, TensorSpec, place, spec


class Tensor:
    """The annotation of a tensor parameter: `Tensor["M", "K"]`, `Tensor["M", 64, f16]`."""

    dtype: DType  # that of its elements, inside kernels and programs
    shape: tuple[Any, ...]
    T: Any
    to: Any
    # In programs a tensor stands for its values.
    __add__: Any
    __radd__: Any
    __sub__: Any
    __rsub__: Any
    __mul__: Any
    __rmul__: Any
    __truediv__: Any
    __rtruediv__: Any
    __matmul__: Any
    __pow__: Any
    __neg__: Any
    __lt__: Any
    __le__: Any
    __gt__: Any
    __ge__: Any

    def __class_getitem__(cls, items: Any) -> TensorSpec:
        parts = items if isinstance(items, tuple) else (items,)
        format: Format | None = None
        if isinstance(parts[-1], (DType, Format)):
            last, parts = parts[-1], parts[:-1]
            format = Dense(last) if isinstance(last, DType) else last
        return TensorSpec(tuple(_dimension(p) for p in parts), format)

    def __getitem__(self, index: Any) -> Any:
        raise TileError("tensors are indexed inside kernels only")

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TileError("tensors are indexed inside kernels only")


def _dimension(p: object) -> Extent:
    """A name, a whole number of at least 1, or a product of both: "2*H"."""
    if isinstance(p, str):
        words = [word.strip() for word in p.split("*")]
        if words[-1].isidentifier() and all(w.isidentifier() or w.isdecimal() for w in words):
            return extent(p)
    if isinstance(p, int) and p >= 1:
        return p
    raise TileError(f"Tensor: {p!r} is not a dimension: a name or a whole number of at least 1")


def inline_of(fn: Callable[..., Any]) -> Inline:
    """The syntax tree of a Python function, with the line numbers of its file."""
    try:
        file = inspect.getsourcefile(fn) or "<unknown>"
        lines, first = inspect.getsourcelines(fn)
    except (OSError, TypeError) as e:
        raise TileError(
            f"the source of `{fn.__name__}` can't be read", hint="define it in a file"
        ) from e
    # Inside an `if`, an indented definition parses as it stands, with the columns of its file.
    nest = ast.parse("if 1:\n" + "".join(lines)) if lines[0][:1].isspace() else None
    body = nest.body[0].body if nest else ast.parse("".join(lines)).body  # type: ignore[attr-defined]
    tree = body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise TileError(f"`{fn.__name__}` is not a plain function")
    ast.increment_lineno(tree, first - (2 if nest else 1))
    source = tuple(line.rstrip("\n") for line in ["\n"] * (first - 1) + lines)
    _count_characters(tree, source)
    return Inline(tree, file, source, functools.partial(_lookup, fn))


def _count_characters(tree: ast.AST, lines: tuple[str, ...]) -> None:
    """Columns in characters: Python's parser counts bytes of UTF-8."""
    for node in ast.walk(tree):
        for line, column in (("lineno", "col_offset"), ("end_lineno", "end_col_offset")):
            if (at := getattr(node, line, None)) is not None and not lines[at - 1].isascii():
                before = lines[at - 1].encode()[: getattr(node, column)]
                setattr(node, column, len(before.decode(errors="ignore")))


def _lookup(fn: Callable[..., Any], name: str) -> object:
    """A name from the function's closure, its module or Python's own."""
    code = fn.__code__
    for free, cell in zip(code.co_freevars, fn.__closure__ or (), strict=True):
        if free == name:
            try:
                return known(cell.cell_contents, name)
            except ValueError:  # a cell that is still empty
                return Missing
    if name in fn.__globals__:
        return known(fn.__globals__[name], name)
    if name == "range":
        return Builtin("range")
    return (
        Builtin(name)
        if name in ("abs", "sum", "max", "min") and hasattr(builtins, name)
        else Missing
    )


def known(value: object, name: str) -> object:
    """A Python object as a kernel may use it."""
    marked = getattr(value, "__tilec__", None)
    match value:
        case _ if isinstance(marked, (Builtin, Inline, Definition)):
            return marked
        case bool() | int() | float() | str() | DType() | None:
            return value
        case tuple():
            return tuple(known(v, name) for v in value)
        case ModuleType():
            return _Names(value)
        case _:
            raise TileError(
                f"`{name}` is a {type(value).__name__}, which a kernel can't use",
                hint="numbers, dtypes and functions with @tc.fn can be used from around a kernel",
            )


class _Names(dict[str, object]):
    """The names of a module, looked up when they are used."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__()
        self.module = module

    def __contains__(self, name: object) -> bool:
        return hasattr(self.module, str(name))

    def __getitem__(self, name: str) -> object:
        return known(getattr(self.module, name), name)


@functools.cache
def library() -> Mapping[str, Inline]:
    """The functions that the language has in itself: softmax, silu, rms_norm, ...

    They are written in Python, whose own parser is there in every process: to make the one of
    `.tile` takes longer than to compile a small kernel.
    """
    path = Path(__file__).with_name("library.py")
    text = path.read_text("utf-8")
    found: dict[str, Inline] = {}

    def lookup(name: str) -> object:
        return found.get(name) or (Builtin(name) if name in BUILTINS else Missing)

    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = Inline(node, path.name, tuple(text.splitlines()), lookup)
    return found


def definition_of(
    fn: Callable[..., Any], makes: Callable[[Signature, Inline], Definition] = Definition
) -> Definition:
    """The kernel that a Python function spells, or the program. Raises TileError at the user's
    line."""
    function = inline_of(fn)
    given = function.tree.args
    if given.vararg or given.kwarg or given.kwonlyargs or given.posonlyargs or given.defaults:
        where = place(function.file, function.lines, function.tree, function.tree.name)
        raise TileError("a kernel takes plain parameters: no *, **, / or defaults", where)
    try:
        hints = inspect.get_annotations(fn, eval_str=True)
    except NameError as e:
        where = place(function.file, function.lines, function.tree, function.tree.name)
        hint = 'the names of dims are quoted: Tensor["M", "K"]'
        raise TileError(f"an annotation can't be read: {e}", where, hint) from None
    params: list[Parameter] = []
    for a in given.args:
        where = place(function.file, function.lines, a, function.tree.name)
        hint: Any = hints.get(a.arg)
        kind = spec(f32 if hint is float else i32 if hint is int else hint)
        if kind is None:
            raise TileError(
                f"the parameter `{a.arg}` has no annotation that says what it is", where,
                'write a: Tensor["M", "K"] for a tensor, f32 or i32 for a number',
            )  # fmt: skip
        params.append(Parameter(a.arg, kind, where))
    return makes(Signature(function.tree.name, tuple(params)), function)
