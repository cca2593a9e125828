"""An op's whole life, from the registries: its meaning, and where it is typed and compiled."""

from __future__ import annotations

import difflib
import inspect
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tilec.codegen.cpu.control import handles as cpu_handles
from tilec.codegen.cuda.control import handles as cuda_handles
from tilec.codegen.triton.control import handles as triton_handles
from tilec.ir import ops
from tilec.ir.core import Op
from tilec.ir.errors import TileError
from tilec.ir.ops import machine, memory
from tilec.ir.ops.packed import Groups, Part, Term, Unpack
from tilec.ir.ops.scaled import ScaledDot
from tilec.ir.ops.sparse import Expand, SparseDot
from tilec.ir.ops.top import Ranking
from tilec.ir.text import show
from tilec.lang.text import parse
from tilec.passes.gradient import handles as gradient_handles

ROOT = Path(__file__).parents[1]
OPS = ops  # importing the package registers every op
SAMPLE = """kernel every(
  x: f32[M, K], w: f32[N, K], i: i32[M], b: bool[M], y: f32[M, N], t: f32[T], seed: u32
) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) {
      acc += dot(x[m, k], w[n, k].T)
    }
    row = x[m, :]
    mean = sum(row, axis=1) / cast(size(K), f32)
    width = max(row, axis=1) - min(row, axis=1)
    first = argmax(row, axis=1)
    a = fma(abs(-width), exp(mean), exp2(mean)) * rsqrt(mean)
    a = maximum(log(a), log2(a)) + minimum(sin(a), cos(a))
    a = floor(tanh(a)) + ceil(erf(a)) + rint(sqrt(a))
    j = (i[m] & 7 | first ^ 3) << 1 >> 2
    j = popcount(floordiv(j, 3) % 5) + m.index + m.start
    odd = (j != 2) == (~b[m])
    a = where(odd, a, where(j <= 2, mean, 0.0))
    bits = random_bits(seed, bitcast(arange(m), u32))
    turned = reshape(transpose(acc, [1, 0]), [n, m, 1])
    run = cummax(cumsum(row, axis=1), axis=1) - cummin(row, axis=1, reverse=true)
    longer = join([row[:, 0:1], run], axis=1)
    t[j] += mean
    for r in range(0, 4) {
      a += mean
    }
    while sum(a) < 1.0 {
      a = a * 2.0
    }
    if size(M) > 3 {
      a = -a
    }
    y[m, n] = acc + a[:, none]
  }
  best = top(x[:, :], 3)
  at = argtop(x[:, :], 3)
}
"""  # every op, as it is written


@dataclass(frozen=True)
class Card:
    """What there is to know about an op."""

    name: str
    meaning: str
    fields: dict[str, str]
    written: str  # a line of a program that makes the op
    ir: str  # the op there, as the IR shows it
    typed: str
    evaluated: str
    gradient: str
    backends: dict[str, str]
    tests: list[str]

    def text(self) -> str:
        """For people."""
        lines = [self.name, *(f"  {line}".rstrip() for line in self.meaning.splitlines()), ""]
        lines += [f"  {name}: {kind}" for name, kind in self.fields.items()]
        lines += ["", f"  written    {self.written}", f"  ir         {self.ir}"]
        lines += ["", f"  typed      {self.typed}", f"  evaluated  {self.evaluated}"]
        lines += [f"  gradient   {self.gradient}"]
        lines += [f"  {name:10} {how}" for name, how in self.backends.items()]
        lines += [f"  tested     {path}" for path in self.tests]
        return "\n".join(lines)


def names() -> list[str]:
    """Every op, in the order of the families."""
    return list(Op.registry)


def card(name: str) -> Card:
    """The card of an op. Raises TileError for an unknown name."""
    if name not in Op.registry:
        close = difflib.get_close_matches(name, Op.registry, 1)
        raise TileError(
            f"no op is called {name!r}", hint=f"did you mean {close[0]!r}?" if close else ""
        )
    cls = Op.registry[name]
    kinds = {n: kind for kind in ("operand", "attribute", "block") for n in cls.fields(kind)}
    hints = {n: str(f.type) for n, f in cls.__dataclass_fields__.items()}
    return Card(
        name, inspect.cleandoc(cls.__doc__ or ""),
        {n: f"{kind} ({hints[n]})" for n, kind in kinds.items()}, *_example(name),
        _place(cls, "infer"), _place(cls, "evaluate"), gradient_handles(cls), backends(cls),
        _tests(cls),
    )  # fmt: skip


def backends(cls: type[Op]) -> dict[str, str]:
    """How each back end compiles an op, or why it does not."""
    found = {"cpu": cpu_handles, "triton": triton_handles, "cuda": cuda_handles}
    if cls.__module__ == machine.__name__:
        return {
            "cpu": "none: it is for machines whose threads share tiles",
            "triton": "none: Triton lays tiles out itself",
            "cuda": cuda_handles(cls),
        }
    if issubclass(cls, (Part, Groups, Term, Unpack)):
        return {
            "cpu": "none: codes lie in streams there",
            "triton": triton_handles(cls),
            "cuda": cuda_handles(cls)
            if cls is Term
            else "none: codes lie in the order of fragments there",
        }
    if of_tensors(cls):
        return dict.fromkeys(found, "none: `fuse` makes a loop of it")
    if cls is ScaledDot:
        return {
            "cpu": "none: no instruction of processors multiplies by scales",
            "triton": triton_handles(cls),
            "cuda": "none: it has no instructions of sm_100 and sm_120 yet",
        }
    if cls is SparseDot:
        return {
            "cpu": "none: no instruction of processors takes what is stored of 2:4 operands",
            "triton": "none: Triton has no product of 2:4 operands",
            "cuda": cuda_handles(cls),
        }
    if cls is Expand:
        return {
            "cpu": cpu_handles(cls),
            "triton": "none: elements are found by counting the bits before each",
            "cuda": cuda_handles(cls),
        }
    return {name: handles(cls) for name, handles in found.items()}


def made_by_passes(cls: type[Op]) -> bool:
    """Whether only passes make an op: no program says it."""
    family = cls.__module__.removeprefix("tilec.ir.ops.")
    return family in ("machine", "packed", "scaled", "sparse") or cls is memory.Nth


def of_tensors(cls: type[Op]) -> bool:
    """Whether an op is of whole tensors alone: it stands in no grid."""
    return issubclass(cls, Ranking)


@cache
def _sample() -> tuple[dict[str, str], list[str]]:
    """The first line of the sample that makes each op, and the sample's IR."""
    func = parse(SAMPLE)["every"].ir()
    lines: dict[str, str] = {}
    for op in func.walk():
        if op.loc is not None:
            lines.setdefault(op.name, op.loc.text.strip())
    return lines, show(func).splitlines()


def _example(name: str) -> tuple[str, str]:
    """How an op is written, and its line of IR."""
    written, lines = _sample()
    made = re.compile(rf"\s*(?:%[\w.]+(?:, %[\w.]+)* = )?{name}(?: |$)")
    texts = (line.strip() for line in lines if made.match(line))
    return written.get(name, ""), next(texts, "").removesuffix(" {")


def _place(cls: type[Op], method: str) -> str:
    found = getattr(cls, method, None)
    if found is None:
        return "by the interpreter's control flow"
    file = Path(inspect.getsourcefile(found) or "").resolve()
    _, line = inspect.getsourcelines(found)
    return f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name}:{line}"


def _tests(cls: type[Op]) -> list[str]:
    """The tests that make the op, or every op of its family."""
    family = "|".join(c.__name__ for c in cls.__mro__ if issubclass(c, Op) and c is not Op)
    made = re.compile(rf"\.(?:{family})\b|\b(?:{family})\(")
    texts = {p: p.read_text("utf-8") for p in (ROOT / "tests").rglob("*.py")}
    return sorted(str(p.relative_to(ROOT)) for p, text in texts.items() if made.search(text))
