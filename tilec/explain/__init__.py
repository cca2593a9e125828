"""What a program becomes: its graph before and after fusion, kernels, bytes, passes, reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.explain.graph import Graph, graph_of
from tilec.explain.svg import drawn
from tilec.explain.traffic import Kernel, compulsory, kernels
from tilec.ir.core import Func
from tilec.ir.dtype import DType
from tilec.ir.format import Format
from tilec.ir.remark import Remark
from tilec.lang.kernel import Definition
from tilec.passes import parse_pipeline, run
from tilec.passes.specialise import specialise

FUSION = "fuse"


@dataclass(frozen=True)
class Explanation:
    """A program before and after fusion; `compulsory` are the bytes that no way can do without."""

    name: str
    dims: Mapping[str, int]
    before: Func
    after: Func
    compulsory: int

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels after fusion."""
        return tuple(kernels(self.after).values())

    @property
    def unfused(self) -> tuple[Kernel, ...]:
        """The kernels if every op were one."""
        return tuple(kernels(self.before).values())

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What the passes chose, and what they could not do, with reasons."""
        return self.after.remarks

    @property
    def graphs(self) -> tuple[Graph, Graph]:
        """The graph before fusion, and after."""
        return graph_of(self.before), graph_of(self.after)

    def svg(self) -> str:
        """Both graphs as the text of an SVG file."""
        before, after = self.graphs
        return drawn([("as written", before), (f"{len(self.kernels)} kernels", after)])

    def __str__(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> list[str]:
        sizes = ", ".join(f"{n} = {size}" for n, size in self.dims.items())
        moved = sum(k.bytes for k in self.kernels)
        lines = [
            f"{self.name} with {sizes or 'no named dimensions'}",
            f"  every op a kernel: {len(self.unfused)} kernels, "
            f"{shown(sum(k.bytes for k in self.unfused))}",
            f"  fused: {len(self.kernels)} kernels, {shown(moved)}; "
            f"compulsory: {shown(self.compulsory)}",
        ]
        for k in self.kernels:
            lines.append(f"{k.name} ({', '.join(k.ops)}), lines {ranges(k.lines)}")
            lines += [f"  reads  {a.tensor}: {shown(a.bytes)} of {shown(a.size)}, "
                      f"{a.passes:.3g} passes{again(a.again)}" for a in k.reads]  # fmt: skip
            lines += [f"  writes {a.tensor}: {shown(a.bytes)}" for a in k.writes]
        return [*lines, *(str(r) for r in self.remarks)]


def explain(
    definition: Definition, types: Mapping[str, Format | DType], dims: Mapping[str, int]
) -> Explanation:
    """What becomes of a program of these formats and dimensions. Raises TileError."""
    func = specialise(definition.ir(types), **dims)
    before = run(parse_pipeline("canonicalize"), func)
    after = run(parse_pipeline(f"{FUSION},canonicalize"), func)
    return Explanation(definition.signature.name, dict(dims), before, after, compulsory(before))


def shown(bytes: int) -> str:
    """A number of bytes for people, in units of 1000."""
    value, unit = float(bytes), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.4g} {unit}"


def again(names: tuple[str, ...]) -> str:
    """For which tiles it is read again."""
    return f", again for each tile of {', '.join(names)}" if names else ""


def ranges(lines: tuple[int, ...]) -> str:
    """3-5, 9."""
    out: list[list[int]] = []
    for n in lines:
        if out and n == out[-1][1] + 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in out) or "none"
