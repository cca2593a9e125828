"""The function that launches a program's kernels on tensors of torch."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence, Set

from tilec.codegen.triton.kernels import WORD, Kernel
from tilec.codegen.triton.memory import GROUPS
from tilec.codegen.triton.printer import DTYPES
from tilec.codegen.triton.wrap import signature, wrapped
from tilec.ir.core import Func, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops.memory import Write
from tilec.ir.types import Memory

TORCH = {**DTYPES, "e4m3": "float8_e4m3fn", "bool": "bool"}


def launcher(func: Func, names: Mapping[Value, str], own: Set[Value], dims: Sequence[str],
             kernels: Sequence[Kernel]) -> list[str]:  # fmt: skip
    """The lines of a plain function: dimensions off the tensors, own memory, the launches."""
    given = [names[v] for v in func.params if v not in own]
    tensors = [names[v] for v in func.params if v not in own and isinstance(v.type, Memory)]
    body = [f"{names[v]} = {_empty(v, tensors[0])}" for v in func.params if v in own]
    for k in kernels:
        body += [f"{d.name} = TensorDescriptor.from_tensor({d.param}, {list(d.box)})"
                 for d in k.descriptors]  # fmt: skip
        body += _grid(k)
        stages = [f"num_stages={k.stages}"] if k.stages is not None else []
        constants = [f"{b}={text}" for b, text in k.constants.items()]
        options = [f"num_warps={k.warps}", *stages, "enable_fp_fusion=False"]
        arguments = ", ".join([*k.takes, *constants, *options])
        body.append(f"{k.entry}[grid]({arguments})")
    words = set(WORD.findall("\n".join(body)))
    read = _read(names, [d for d in dims if d in words])
    each = next(n for n in ("t", "tensor", "one_tensor") if n not in names.values())
    check = [f"for {each} in ({', '.join(tensors)}{',' * (len(tensors) == 1)}):",
             f'    assert {each}.is_contiguous(), "expected contiguous tensors"']  # fmt: skip
    doc = _doc(func, names, own)
    lines = [line for text in (*check, *read, *body) for line in _laid_out(text)]
    return [*signature(func.name, given), *doc, *lines]


def _laid_out(text: str) -> list[str]:
    """A statement of the function, which may be indented in its turn, or a blank line."""
    return wrapped(text.strip(), 4 + len(text) - len(text.lstrip())) if text else [""]


def _doc(func: Func, names: Mapping[Value, str], own: Set[Value]) -> list[str]:
    """The docstring: what each tensor holds, and which are written."""
    written = {op.mem for op in func.walk() if isinstance(op, Write)}
    shown = {v: f"{n} {v.type}".replace("*", "") for v, n in names.items() if v not in own}
    read = ", ".join(t for v, t in shown.items() if v not in written)
    wrote = ", ".join(t for v, t in shown.items() if v in written)
    text = f'"""Read {read}; write {wrote}."""'
    whole = re.sub(r"\[.*?\]| (?=\w+\[)", lambda m: m[0].replace(" ", "\0"), text)
    return [f"    {line}".replace("\0", " ") for line in textwrap.wrap(whole, 92)]


def _read(names: Mapping[Value, str], dims: Sequence[str]) -> list[str]:
    """Lines that read dimensions off the tensors, several of one at once."""
    lines: list[str] = []
    left = list(dims)
    for v, name in names.items():
        if not isinstance(v.type, Memory) or v.type.dtype.bits < 8:
            continue
        own = [str(d) for d in v.type.shape]
        new = {*own} & {*left}
        if len(new) > 1 and len({*own}) == len(own):
            lines.append(f"{', '.join(d if d in new else '_' for d in own)} = {name}.shape")
            left = [d for d in left if d not in new]
    return [*lines, *(f"{d} = {_source(names, d)}" for d in left)]


def _grid(k: Kernel) -> list[str]:
    """How many programs there are, which may depend on the sizes of tiles."""
    count = f"({' * '.join(c for c in k.counts if c != '1') or '1'},)"
    if "meta[" not in count:
        return [f"grid = {count}"]
    return ["", "def grid(meta):", f"    return {count}", ""]


def _empty(v: Value, beside: str) -> str:
    """Memory of the program's own, where that of a tensor is."""
    if not isinstance(v.type, Memory) or str(v.type.dtype) not in TORCH:
        raise TileError(f"triton: no memory of {v.type} for `{v.hint}`")
    size = ", ".join(map(_host, v.type.shape))
    size += "," * (len(v.type.shape) == 1)
    return f"torch.empty(({size}), dtype=torch.{TORCH[str(v.type.dtype)]}, device={beside}.device)"


def _host(e: Extent) -> str:
    """An extent as the launcher computes it."""
    if isinstance(e, int) or e.is_name:
        return str(e)
    if groups := GROUPS.fullmatch(e.text):
        return f"triton.cdiv({groups[1]}, {groups[2]})"
    raise TileError(f"triton: no code for the extent {e}", hint="give its dimensions numbers")


def _source(names: Mapping[Value, str], dim: str) -> str:
    """Where a dimension is read."""
    for v, name in names.items():
        if isinstance(v.type, Memory) and v.type.dtype.bits >= 8:
            for axis, d in enumerate(v.type.shape):
                if isinstance(d, Sym) and d.text == dim:
                    return f"{name}.shape[{axis}]"
    raise TileError(f"triton: no tensor says what {dim} is", hint="give the dimension a number")
