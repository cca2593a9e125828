"""PTX modules: load a text, list its kernels, run one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tilec.ir.errors import TileError
from tilec.ptx.arguments import Arguments
from tilec.ptx.body import Program, program
from tilec.ptx.instructions import REGISTRY
from tilec.ptx.launch import Code, Launch, Settings, run
from tilec.ptx.report import Report, Suppression
from tilec.ptx.source import Function, Source, Variable, read

Size = int | tuple[int, ...]


@dataclass(frozen=True)
class Kernel:
    """An entry of a module, decoded: every instruction is known."""

    program: Program
    code: Code

    @property
    def name(self) -> str:
        """The name of the entry."""
        return self.program.entry.name

    @property
    def parameters(self) -> tuple[Variable, ...]:
        """The parameters, in order."""
        return self.program.entry.parameters

    @property
    def block(self) -> tuple[int, int, int] | None:
        """The threads of a block that the text asks for, or its limit on them."""
        m = re.search(r"\.(?:req|max)ntid ([\d, ]+)", self.program.entry.attributes)
        return _three(tuple(int(n) for n in m[1].split(","))) if m else None


@dataclass(frozen=True)
class Module:
    """A module of PTX; kernels are decoded when they are first asked for."""

    source: Source
    decoded: dict[str, Kernel] = field(default_factory=dict[str, Kernel], repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the entries."""
        return tuple(f.name for f in self.source.functions.values() if f.entry)

    def kernel(self, name: str = "") -> Kernel:
        """An entry; the name may be left out where there is only one.

        Raises TileError for a name that is not there and for instructions that are not known.
        """
        names = self.names
        if not name and len(names) > 1:
            raise TileError(f"ptx: there are several kernels: {', '.join(names)}")
        name = name or next(iter(names))
        if name not in names:
            raise TileError(f"ptx: no kernel is called {name!r}; there are {', '.join(names)}")
        if name not in self.decoded:
            _one_block_clusters(self.source.functions[name])
            p = program(self.source, self.source.functions[name])
            code = [REGISTRY.decode(pc, d) for pc, d in enumerate(p.code)]
            self.decoded[name] = Kernel(p, code)
        return self.decoded[name]

    def run(
        self,
        name: str,
        grid: Size,
        block: Size,
        arguments: Arguments,
        *,
        shared: int = 0,
        check: bool = True,
        statistics: bool = True,
        suppress: Iterable[Suppression] = (),
        limit: int = Settings.limit,
    ) -> Report:
        """Run a kernel on `grid` blocks of `block` threads with `shared` dynamic bytes.

        Arguments are given in the order of the parameters: numpy arrays for pointers (results are
        written into them), numbers, `TensorMap`s, or the bytes of a structure. Without `check`,
        only accesses out of bounds, deadlocks and traps are reported.
        """
        k = self.kernel(name)
        launch = Launch(_three(grid), _three(block), shared)
        settings = Settings(check, statistics, tuple(suppress), limit)
        return run(k.program, k.code, launch, arguments, settings)


def _one_block_clusters(entry: Function) -> None:
    m = re.search(r"\.reqnctapercluster ([\d, ]+)", entry.attributes)
    if m and any(int(n) > 1 for n in m[1].split(",")):
        raise TileError(f"ptx: {entry.name} wants clusters of {m[1].strip()} blocks; only of one "
                        "block are supported")  # fmt: skip


def _three(size: Size) -> tuple[int, int, int]:
    parts = (size,) if isinstance(size, int) else tuple(size)
    if not 1 <= len(parts) <= 3:
        raise TileError(f"ptx: {parts} is no size of a grid or a block")
    x, y, z = (*parts, 1, 1)[:3]
    return int(x), int(y), int(z)


def load(text: str) -> Module:
    """A module from the text of PTX. Raises TileError where the text can't be read."""
    return Module(read(text))
