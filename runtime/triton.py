"""Triton source -> machine code for a GPU that need not be there, or a run in an interpreter.

Needs the packages triton and torch, no driver.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tilec.ir.codes import CODES
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.source import KernelSource, Launch, Param
from tilec.observe import reported, stage
from tilec.runtime.cache.refusal import Refusal
from tilec.settings import tool_environment

TYPES = {
    "f64": "fp64", "f32": "fp32", "f16": "fp16", "bf16": "bf16", "e4m3": "fp8e4nv",
    "e5m2": "fp8e5", "bool": "i1",
}  # fmt: skip
SWIZZLES = (0, 32, 64, 128)  # bytes, as Triton and CUtensorMapSwizzle number them
_FINAL = {"CompilationError", "CompileTimeAssertionFailure", "OutOfResources",
          "UnsupportedLanguageConstruct"}  # fmt: skip
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
    """What triton made: the text of each of STAGES by name, machine code, the bytes of dynamic
    shared memory that a launch gives each CTA, and how many bytes the swizzles of its tensor maps
    are wide, in the order of the launch's descriptors."""

    stages: Mapping[str, str]
    cubin: bytes
    shared: int
    swizzles: tuple[int, ...] = ()

    def __getitem__(self, stage: str) -> str:
        return self.stages[stage]


def compile_for(
    source: KernelSource, target: str, constants: Mapping[str, int] | None = None,
    even: Collection[str] = (),
) -> Build:  # fmt: skip
    """The only kernel of a program, as `compile_each` compiles it."""
    if len(source.launches) != 1:
        raise TileError(f"{source.entry}: expected one kernel, not {len(source.launches)}")
    (build,) = compile_each(source, target, constants, even)
    return build


def compile_each(
    source: KernelSource, target: str, constants: Mapping[str, int] | None = None,
    even: Collection[str] = (), *, line_info: bool = True, fresh: bool = False,
) -> tuple[Build, ...]:  # fmt: skip
    """The kernels of a program, one a launch, compiled for a target such as sm_90.

    `constants` gives each `BLOCK_` constant its number, where the source has none or another;
    `even` names the dimensions whose numbers are multiples of 16, as the addresses of all tensors
    are. `line_info` is of the source in a folder of its own: without it machine code is the same
    each time. With `fresh` nothing comes from Triton's own cache, which believes what it finds, and
    nothing is left there. Raises TileError where triton is absent, refuses the source, or does not
    know the target.
    """
    with stage("import triton", "load"):
        triton: Any = _triton()
    gpu = triton.backends.compiler.GPUTarget("cuda", _capability(target), 32)
    with (
        tempfile.TemporaryDirectory() as folder, triton.knobs.compilation.scope(),
        triton.knobs.cache.scope(),
    ):  # fmt: skip
        triton.knobs.compilation.disable_line_info = not line_info
        triton.knobs.compilation.listener = _timed
        if fresh:
            triton.knobs.cache.dir = str(Path(folder, "cache"))
        module = _module(source, Path(folder))
        return tuple(
            _compiled(source, k, getattr(module, k.entry), gpu, constants or {}, even)
            for k in source.launches
        )


def _compiled(source: KernelSource, launch: Launch, kernel: Any, gpu: Any,
              constants: Mapping[str, int], even: Collection[str]) -> Build:  # fmt: skip
    triton: Any = _triton()
    given = inspect.signature(kernel.fn).parameters
    chosen = {n: p.default for n, p in given.items() if p.default is not p.empty}
    constants = {**chosen, **constants}
    types = _descriptors(source, launch)
    signature, attributes = _signature(source, kernel.arg_names, types, constants, even)
    known = {n: constants[n] for n, t in signature.items() if t == "constexpr"}
    ast = triton.compiler.ASTSource(kernel, signature, known, attributes)
    options = {"num_warps": launch.threads // gpu.warp_size, "num_stages": launch.stages,
               "enable_fp_fusion": False}  # fmt: skip
    try:
        with stage("triton", "compiler"):
            made = triton.compile(ast, target=gpu, options=options)
    except Exception as e:
        said = f"triton does not compile {launch.entry} for sm_{gpu.arch}: {e}"
        raise (Refusal if _final(e) else TileError)(said) from e
    if getattr(made.metadata, "global_scratch_size", 0):
        raise TileError(f"{launch.entry} needs memory that triton alone can give it")
    maps: list[Any] = list(getattr(made.metadata, "tensordesc_meta", None) or ())
    swizzles = tuple(SWIZZLES[int(m["swizzle"])] for m in maps)
    return Build({s: made.asm[s] for s in STAGES}, made.asm["cubin"], made.metadata.shared,
                 swizzles)  # fmt: skip


def _timed(*, times: Any, **_: object) -> None:
    """Triton's listener to its compiles: it says the microseconds of each stage."""
    names = {"cubin": "ptxas"}
    found = {names.get(n, f"triton {n}"): t / 1e6 for n, t in times.lowering_stages}
    reported("compiler", {"triton ast": times.ir_initialization / 1e6, **found})


def _final(error: Exception) -> bool:
    """Whether Triton would say this again: it is of the source, not of files or memory."""
    said = str(error)
    match type(error).__name__:
        case "PTXASError":
            return "error code -" not in said  # ended by a signal
        case "RuntimeError":
            return "PassManager::run failed" in said
        case name:
            return name in _FINAL


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
        environment = tool_environment("PYTHONPATH") | {"TRITON_INTERPRET": "1"}
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
    file = folder / f"{source.entry[:100]}.py"
    file.write_text(source.text, "utf-8")
    spec = importlib.util.spec_from_file_location(source.entry, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _signature(
    source: KernelSource,
    names: list[str],
    types: Mapping[str, str],
    constants: Mapping[str, int],
    even: Collection[str],
) -> tuple[dict[str, str], dict[tuple[int, ...], list[list[Any]]]]:
    """Triton's type of each argument, some of which are known, and which are multiples of 16."""
    types = dict(types)
    params = {p.name: p for p in source.params}
    for name in names:
        if name in types:
            continue
        if name in params:
            types[name] = _type(params[name])
        elif name in constants:
            types[name] = "constexpr"
        elif not name.startswith("BLOCK_"):
            types[name] = "i32"
        else:
            dim = name.removeprefix("BLOCK_")
            raise TileError(f"{source.entry}: a tile holds all of {dim}, which has no number",
                            hint=f"--dims {dim}=1024")  # fmt: skip
    aligned = [(i,) for i, n in enumerate(names) if types[n].startswith("*") or n in even]
    ordered = {n: types[n] for n in names}
    return ordered, {place: [["tt.divisibility", 16]] for place in aligned}


def _descriptors(source: KernelSource, launch: Launch) -> dict[str, str]:
    """Triton's types of the descriptors that a kernel takes."""
    params = {p.name: p for p in source.params}
    return {d.name: f"tensordesc<{_type(params[d.param])[1:]}{list(d.box)}>"
            for d in launch.descriptors}  # fmt: skip


def _type(p: Param) -> str:
    short = TYPES.get(p.dtype) or p.dtype
    if p.dtype in CODES or (p.dtype[:1] in "iu" and p.dtype[1:].isdecimal()
                            and int(p.dtype[1:]) < 8):  # fmt: skip
        short = "u8"
    return short if p.kind == "scalar" else f"*{short}"
