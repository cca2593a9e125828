"""Fused programs on every back end, and how many bytes of memory the CUDA code touches."""

import emulated
import pytest
from fused import program, ran, random
from fused_programs import ATTENTIONS, PROGRAMS, ROWS, STATEMENTS, Written
from launches import Case, on_cpu, on_cuda, on_triton

from tilec.compile import Kernel
from tilec.cuda import emulate
from tilec.ir.core import Func
from tilec.ir.ops.memory import Write
from tilec.ir.types import Memory
from tilec.lang.programs import ProgramDefinition
from tilec.lang.text import parse

# A kernel of CUDA may not read what it writes: another thread may have written it by then.
RACES = ("in place", "around a grid")
KEPT = ("in place", "scattered", "a part")  # what is not written stays


def kernel(text: str) -> Kernel:
    """The last function of a text, which writes its results into arguments."""
    found = list(parse(text).values())[-1]
    return Kernel(found.called({}) if isinstance(found, ProgramDefinition) else found)


def written(func: Func) -> set[str]:
    """The tensors that a function stores."""
    stored = {op.mem.hint for op in func.walk() if isinstance(op, Write)}
    return {name for name in stored if "." not in name}


def case(name: str, of: Written) -> Case:
    """A launch, and what the program gives before it is fused."""
    func = program(of.text)
    given = random(func, of.dims)
    want = ran(func, given, of.dims)
    types = {p.hint: p.type.dtype for p in func.params
             if isinstance(p.type, Memory) and "." not in p.hint}  # fmt: skip
    read = written(func) if name in KEPT else set[str]()
    arguments = {n: t.to_storage(given[n]) for n, t in types.items()
                 if n in read or n not in written(func)}  # fmt: skip
    wants = {n: types[n].to_storage(want[n]) for n in written(func)}
    near = of.near and max(of.near, 2e-6)
    return Case(name, kernel(of.text), arguments, wants, near)


@pytest.mark.parametrize("name", PROGRAMS)
def test_on_a_cpu(name: str):
    on_cpu(case(name, PROGRAMS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in PROGRAMS if n not in RACES])
def test_in_cuda(name: str):
    on_cuda(case(name, PROGRAMS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_in_triton(name: str):
    on_triton(case(name, PROGRAMS[name]))


LONG = {
    "softmax": Written(ROWS["softmax"].text, dict(B=2, M=3, N=5000), 1, 2),
    "log-sum-exp": Written(ROWS["log-sum-exp"].text, dict(M=3, N=5001), 1, 1),
    "layer-norm": Written(ROWS["layer-norm"].text, dict(M=3, N=4099), 1, 2),
    "attention": Written(ATTENTIONS["attention"].text, dict(B=1, H=2, M=130, N=201, D=32), 1, 1),
    "causal": Written(ATTENTIONS["causal"].text, dict(B=1, H=2, M=190, N=190, D=32), 1, 1),
    "forwarded": Written(STATEMENTS["forwarded"].text, dict(M=3, N=4500), 1, 2),
}


@pytest.mark.parametrize("name", LONG)
def test_many_tiles_on_a_cpu(name: str):
    on_cpu(case(name, LONG[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_many_tiles_in_cuda(name: str):
    on_cuda(case(name, LONG[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_many_tiles_in_triton(name: str):
    on_triton(case(name, LONG[name]))


def touched(name: str, of: Written) -> int:
    """The bytes of memory that the accesses of a program's CUDA code take at least."""
    one = case(name, of)
    made = emulated.program_of(one.kernel, one.types, one.dims)
    reports = emulate(made, one.arguments())  # type: ignore[arg-type]
    return 32 * sum(c.ideal_sectors for r in reports for c in r.counts)


def test_attention_reads_keys_and_values_once():
    m, n, d = 64, 512, 32  # one tile of queries
    of = Written(ATTENTIONS["attention"].text, dict(B=1, H=1, M=m, N=n, D=d), 1, 1)
    assert touched("attention", of) == 4 * (m * d + 2 * n * d + m * d)


def test_a_causal_mask_skips_the_blocks_that_it_hides():
    m, d, tile = 256, 32, 64
    sizes = dict(B=1, H=1, M=m, N=m, D=d)
    whole, causal = (touched(n, Written(ATTENTIONS[n].text, sizes, 1, 1))
                     for n in ("attention", "causal"))  # fmt: skip
    block = 2 * 4 * tile * d  # of keys, and of values
    assert whole == 4 * (2 * m * d) + 16 * block
    assert causal == 4 * (2 * m * d) + (1 + 2 + 3 + 4) * block
