"""LLVM IR text to machine code in this process. Knows LLVM; knows nothing of kernels or caches."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import llvmlite.binding as _binding  # pyright: ignore[reportMissingTypeStubs]

from tilec.ir.errors import TileError
from tilec.observe import stage
from tilec.runtime.cache.key import package_digest
from tilec.runtime.cache.refusal import Refusal

# llvmlite ships no type stubs; this is the one place where its objects enter.
llvm = cast(Any, _binding)

_LEVEL = 2  # of the code generator
_OPTIONS = {"reloc": "pic", "codemodel": "small"}
_MODULE_NUMBER = itertools.count()


@dataclass(frozen=True)
class Machine:
    """The processor that code is generated for, in LLVM's names."""

    triple: str
    cpu: str
    features: str

    @property
    def made_by(self) -> dict[str, str]:
        """All that decides which code LLVM emits, for use in cache keys."""
        version = ".".join(str(part) for part in llvm.llvm_version_info)
        return {"compiler": f"llvm {version}, {package_digest('llvmlite')}",
                "options": f"opt {_LEVEL} {_OPTIONS}", "target": f"{self.triple} {self.cpu}",
                "features": self.features}  # fmt: skip


def host_machine(cpu: str = "", features: str = "") -> Machine:
    """This computer; or, on the same system, the named cpu with only the given features added."""
    _initialize()
    triple: str = llvm.get_process_triple()
    if cpu:
        return Machine(triple, cpu, features)
    found: str = llvm.get_host_cpu_features().flatten()
    return Machine(triple, llvm.get_host_cpu_name(), ",".join(filter(None, (found, features))))


def compile_object(text: str, machine: Machine, *, codegen: int = _LEVEL) -> bytes:
    """The object file (ELF) of a module. `codegen` is the code generator's level; LLVM's pipeline
    of IR passes is not run, as all our text has its final form.

    Raises TileError when LLVM does not accept the text.
    """
    with stage("LLVM", "compiler"):
        return _target_machine(machine, codegen).emit_object(_module(text))


def assembly(text: str, machine: Machine, *, codegen: int = _LEVEL) -> str:
    """The assembly text of a module, under the options of `compile_object`."""
    with stage("LLVM", "compiler"):
        return _target_machine(machine, codegen).emit_assembly(_module(text))


@dataclass(frozen=True)
class LoadedModule:
    """Machine code in this process. The code is unmapped when this object is dropped."""

    addresses: Mapping[str, int]
    tracker: Any

    def __getitem__(self, symbol: str) -> int:
        return self.addresses[symbol]

    def keep_forever(self) -> None:
        """Leave the code mapped even while the interpreter shuts down: threads may be in it."""
        self.tracker.detach()


def load_object(
    image: bytes, exports: Iterable[str], imports: Mapping[str, int] | None = None
) -> LoadedModule:
    """Map an object file, bind its undefined symbols to `imports` or, failing that, to what this
    process exports, and look up `exports`.

    Raises TileError when a symbol is missing.
    """
    names = tuple(exports)
    library = llvm.JITLibraryBuilder().add_object_img(image)
    for name, address in (imports or {}).items():
        library.import_symbol(name, address)
    library.add_current_process()
    for name in names:
        library.export_symbol(name)
    try:
        with stage("load", "load"):
            tracker = library.link(_linker(), f"tilec{next(_MODULE_NUMBER)}")
    except RuntimeError as error:
        raise TileError(f"can't load compiled code: {error}") from error
    return LoadedModule({name: tracker[name] for name in names}, tracker)


@cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # for inline assembly


@cache
def _target_machine(machine: Machine, codegen: int) -> Any:
    _initialize()
    target = llvm.Target.from_triple(machine.triple)
    return target.create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=codegen, **_OPTIONS
    )


@cache
def _linker() -> Any:
    _initialize()
    # JITLink, as the older loader can't reach symbols more than 2 GiB away on every system.
    lljit = llvm.create_lljit_compiler(
        _target_machine(host_machine(), _LEVEL), use_jit_link=platform.system() == "Linux"
    )
    return lljit


def _module(text: str) -> Any:
    _initialize()
    try:
        return llvm.parse_assembly(text)
    except RuntimeError as error:
        raise Refusal(f"LLVM does not accept the generated code: {error}") from error
