"""Kernels that are called beside whole-tensor ops: what lies between them is not stored where that
is right and saves something."""

import pytest
from fused import far, grids, program
from fused_programs import CALLS, LINEAR

from tilec.passes.fuse import fuse


def own(func: object) -> list[str]:
    """The memories of a function's own."""
    return [p.hint for p in func.params if "." in p.hint]  # type: ignore[attr-defined]


def test_a_prologue_and_an_epilogue_need_no_memory():
    made = fuse(program(CALLS["around a call"].text))
    assert own(made) == []
    said = [r.message for r in made.remarks if "is no memory" in r.message]
    assert len(said) == 2


def test_the_bytes_that_are_saved_are_said():
    dims = dict(M=16, N=32, K=64)
    made = fuse(program(CALLS["around a call"].text, **dims))
    text = "\n".join(r.message for r in made.remarks)
    assert f"what follows is computed where it was stored; {2 * 4 * 16 * 32} bytes" in text
    assert f"computed where they are read; {2 * 4 * 16 * 64} bytes" in text


APART = {
    "what is computed again reads twice as much": (
        "program f(x: f32[M, K], y: f32[M, K], w: f32[N, K]) {\n"
        'h = empty("M", "N")\n linear(x + y, w, h)\n return h }', 1),
    "rows of the result are read": (
        "program f(x: f32[M, K], w: f32[N, K]) {\n"
        'h = empty("M", "N")\n linear(x, w, h)\n return softmax(h) }', 1),
    "turned": (
        "program f(x: f32[M, K], w: f32[M, K]) {\n"
        'h = empty("M", "M")\n linear(x, w, h)\n return h.T + 1.0 }', 1),
    "two read it": (
        "program f(x: f32[M, K], w: f32[N, K], v: f32[P, N]) {\n"
        'h = empty("M", "N")\n linear(x, w, h)\n g = empty("M", "P")\n linear(h, v, g)\n'
        "return (h + 1.0, g) }", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_what_costs_more_or_is_not_there_yet_is_stored(name: str):
    text, kept = APART[name]
    made, off = far(program(LINEAR + text), {"M": 5, "N": 7, "K": 9, "P": 4})
    assert off <= 3e-7
    assert len(own(made)) == kept
    assert grids(made) == kept + 1 + (name == "two read it")


def test_an_input_that_is_written_in_between_is_read_before():
    func = program(LINEAR + """program f(x: f32[M, K], w: f32[N, K], y: f32[M, N]) {
      h = empty("M", "K")
      h[:, :] = exp(x)
      linear(x, w, y)
      x[:, :] = x * 2.0
      z = empty("M", "N")
      linear(h, w, z)
      return z }""")  # fmt: skip
    made, off = far(func, {"M": 5, "N": 7, "K": 9})
    assert off <= 3e-7
    assert "x.h" in own(made)


def test_an_epilogue_waits_for_what_it_reads():
    func = program(LINEAR + """program f(x: f32[M, K], w: f32[N, K], y: f32[M, K]) {
      h = empty("M", "N")
      linear(x, w, h)
      g = empty("M", "N")
      linear(y, w, g)
      return h * g }""")  # fmt: skip
    made, off = far(func, {"M": 5, "N": 7, "K": 9})
    assert off <= 3e-7
    assert (own(made), grids(made)) == (["x.h"], 2)
