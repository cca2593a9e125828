"""Programs become kernels that mean the same, as few as may be; what may not be fused is left."""

import pytest
from fused import far, grids, loops, program
from fused_programs import PROGRAMS

from tilec.ir.text import show
from tilec.passes.fuse import fuse


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_becomes_so_many_kernels_with_so_many_loops(name: str):
    case = PROGRAMS[name]
    func, off = far(program(case.text), case.dims)
    assert off <= case.near
    assert (grids(func), len(loops(func))) == (case.kernels, case.loops), show(func)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("size", [2, 64])
def test_dimensions_that_are_numbers_keep_the_meaning(name: str, size: int):
    case = PROGRAMS[name]
    assert far(program(case.text, **case.dims), case.dims, seed=1, size=size)[1] <= case.near


def test_a_kernel_is_left_as_it_is():
    func = program("kernel f(x: f32[M], y: f32[M]) { n = size(M)\n"
                   "for m in tiles(M) { y[m] = x[m] * cast(n, f32) } }")  # fmt: skip
    assert fuse(func) is func


def test_a_number_outside_of_grids_is_known_to_all():
    func = program("kernel f(x: f32[M], y: f32[M], z: f32[M]) { n = cast(size(M), f32)\n"
                   "for m in tiles(M) { y[m] = x[m] * n }\n z[:] = x[:] / n }")  # fmt: skip
    made, off = far(func, {"M": 7})
    assert off == 0.0
    assert grids(made) == 2


def test_a_short_row_is_held_and_a_long_one_read_again():
    text = "program f(x: f32[M, N]) { return softmax(x) }"
    assert len(loops(fuse(program(text, M=4, N=4096)))) == 0
    assert len(loops(fuse(program(text, M=4, N=4097)))) == 2


SAVED = {  # sums and products that no memory holds, twice, and what two results read, once
    "program f(x: f32[M, K], w: f32[N, K], b: f32[N]) { return silu(x @ w.T + b) }": 2
    * 4
    * 16
    * 32,
    "program f(x: f32[M, K], w: f32[N, K], v: f32[N, K]) { return (x @ w.T, x @ v.T) }": 4
    * 16
    * 64,
    "program f(x: f32[M, N]) { return softmax(x) }": 2 * 2 * 4 * 16,
    "program f(x: f32[M, N]) { return exp(silu(x) + 1.0) * 2.0 }": 0,
}


@pytest.mark.parametrize("text", SAVED)
def test_a_remark_says_the_bytes_that_are_not_moved(text: str):
    made = fuse(program(text, M=16, N=32, K=64))
    (said,) = [r.message for r in made.remarks]
    less = f"; {SAVED[text]} bytes that are not moved" if SAVED[text] else ""
    assert said.partition("loops")[2] == less
