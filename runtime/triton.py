"""Triton source -> machine code for a GPU that need not be there, or a run in an interpreter.

Needs the packages triton and torch, no driver.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.source import KernelSource

TYPES = {
    "f64": "fp64", "f32": "fp32", "f16": "fp16", "bf16": "bf16", "e4m3": "fp8e4nv",
    "e5m2": "fp8e5", "bool": "i1",
}  # fmt: skip
STAGES = ("ttir", "ttgir", "llir", "ptx")
_RUN = """
import importlib.util, sys
import numpy as np, torch
spec = importlib.util.spec_from_file_location("kernel", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
data = np.load(sys.argv[2])
arguments = [torch.from_numpy(data[n]) if data[n].ndim else data[n].item() for n in data.files]
getattr(module, sys.argv[3])(*arguments)
np.savez(sys.argv[2], **{n: np.asarray(a) for n, a in zip(data.files, arguments)})
"""


@dataclass(frozen=True)
class Build:
    """What triton made: the text of each of STAGES by name, machine code, and the bytes of dynamic
    shared memory that a launch gives each CTA."""

    stages: Mapping[str, str]
    cubin: bytes
    shared: int

    def __getitem__(self, stage: str) -> str:
        return self.stages[stage]


def compile_for(
    source: KernelSource, target: str, constants: Mapping[str, int] | None = None
) -> Build:
    """A kernel compiled for a target such as sm_90.

    `constants` gives each `BLOCK_` constant its number. Raises TileError where triton is absent,
    refuses the source, or does not know the target.
    """
    triton: Any = _triton()
    capability = _capability(target)
    with tempfile.TemporaryDirectory() as folder:
        module = _module(source, Path(folder))
        kernel = getattr(module, source.entry)
        signature, attributes = _signature(source, kernel.arg_names, constants or {})
        gpu = triton.backends.compiler.GPUTarget("cuda", capability, 32)
        ast = triton.compiler.ASTSource(kernel, signature, dict(constants or {}), attributes)
        try:
            made = triton.compile(ast, target=gpu)
        except Exception as e:
            raise TileError(f"triton does not compile {source.entry} for {target}: {e}") from e
        stages = {s: made.asm[s] for s in STAGES}
        return Build(stages, made.asm["cubin"], made.metadata.shared)


def interpreted(source: KernelSource, arguments: Mapping[str, Array]) -> dict[str, Array]:
    """The arguments after a run in Triton's interpreter, in a process of its own (it must be chosen
    before triton is imported). Arrays in the order of the parameters; a scalar has rank 0."""
    _triton()
    name = source.entry.removesuffix("_kernel")
    with tempfile.TemporaryDirectory() as folder:
        file, data, script = (Path(folder, n) for n in ("kernel.py", "data.npz", "run.py"))
        file.write_text(source.text, "utf-8")
        script.write_text(_RUN, "utf-8")
        np.savez(data, **arguments)  # type: ignore[arg-type]
        command = [sys.executable, str(script), str(file), str(data), name]
        environment = os.environ | {"TRITON_INTERPRET": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise TileError(f"{name} fails in Triton's interpreter:\n{done.stderr}")
        with np.load(data) as found:
            return {n: found[n] for n in found.files}


def _triton() -> Any:
    if importlib.util.find_spec("triton") is None:
        raise TileError("the Triton back end needs triton", hint="pip install tilec[triton]")
    importlib.import_module("triton.backends.compiler")  # untyped, and heavy
    return importlib.import_module("triton")


def _capability(target: str) -> int:
    number = target.removeprefix("sm_").rstrip("a")
    if not target.startswith("sm_") or not number.isdecimal():
        raise TileError(f"{target!r} is no target of the Triton back end: expected sm_80 or sm_90")
    return int(number)


def _module(source: KernelSource, folder: Path) -> ModuleType:
    """The source as a module; Triton reads the file again, so it must be one."""
    file = folder / f"{source.entry}.py"
    file.write_text(source.text, "utf-8")
    spec = importlib.util.spec_from_file_location(source.entry, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _signature(
    source: KernelSource, names: list[str], constants: Mapping[str, int]
) -> tuple[dict[str, str], dict[tuple[int, ...], list[list[Any]]]]:
    """Triton's type of each argument, and which are multiples of 16: pointers and dimensions."""
    types: dict[str, str] = {}
    for p in source.params:
        short = TYPES.get(p.dtype) or p.dtype
        if p.dtype[:1] in "iu" and p.dtype[1:].isdecimal() and int(p.dtype[1:]) < 8:
            short = "u8"
        types[p.name] = f"*{short}" if p.kind == "tensor" else short
    even = [n for n in types if types[n].startswith("*")]
    for name in names:
        if name in types:
            continue
        if name.startswith("BLOCK_"):
            if name not in constants:
                dim = name.removeprefix("BLOCK_")
                raise TileError(f"{source.entry}: a tile holds all of {dim}, which has no number",
                                hint=f"--dims {dim}=1024")  # fmt: skip
            types[name] = "constexpr"
        else:
            types[name] = "i32"
            even.append(name)
    return types, {(names.index(n),): [["tt.divisibility", 16]] for n in even}
