"""What makes printed statements readable keeps what they mean."""

from __future__ import annotations

import ast
import random

import pytest

from tilec.codegen.triton.statements import readable
from tilec.codegen.triton.wrap import WIDTH, wrapped

OPERATORS = ("+", "-", "*", "/", "//", "%", "&", "|", "^", "<<", ">>")


def expression(rng: random.Random, depth: int) -> str:
    """A random expression with more parentheses than it needs."""
    if not depth:
        return rng.choice(["offs_m[:, None]", "K", "0.5", "mask_n", "(x,)[0]", '"ieee"'])
    a, b = (expression(rng, depth - 1) for _ in range(2))
    kind = rng.randrange(4)
    if kind == 0:
        return f"tl.where({a}, other={b})"
    if kind == 1:
        return f"({a}).to(tl.int32)[None, :]"
    if kind == 2:
        return f"-({a})" if rng.random() < 0.5 else f"(({a}) < ({b}))"
    return f"(({a}) {rng.choice(OPERATORS)} ({b}))"


@pytest.mark.parametrize("seed", range(40))
def test_lines_fit_and_mean_the_same(seed: int) -> None:
    text = f"value = {expression(random.Random(seed), 5)}"
    lines = wrapped(text, 8)
    body = "\n".join(["if 1:", *lines])
    assert ast.dump(ast.parse(f"if 1: {text}")) == ast.dump(ast.parse(body))
    assert all(len(line) <= WIDTH for line in lines if line.count("(") + line.count("[") < 4)


def body(*lines: str, bases: dict[str, str] | None = None, movable: str = "") -> list[str]:
    """The lines of a kernel that has `x` and `y`, each four blanks deeper than here."""
    return [t.removeprefix("    ") for t in readable([f"    {t}" for t in lines], bases or {},
            set(movable.split()), {"x", "y"})]  # fmt: skip


USE = "tl.store(y, a + b)"


def test_equal_loads_are_one_until_something_is_written() -> None:
    load = "tl.load(x)"
    assert body(f"a = {load}", f"b = {load}", USE) == [f"a = {load}", "tl.store(y, a + a)"]
    lines = [f"a = {load}", "tl.store(x, a)", f"b = {load}", USE]
    assert body(*lines) == lines
    inside = [f"a = {load}", "for i in range(4):", f"    b = {load}", "    tl.store(x, a + b)"]
    assert body(*inside) == inside


def test_addresses_leave_the_loops_that_do_not_change_them() -> None:
    outer, inner, store = "for i in range(4):", "    for j in range(4):", "        tl.store(b, 0)"
    lines = [outer, inner, "        a = x + i", "        b = a + j", store]
    moved = [outer, "    a = x + i", inner, "        b = a + j", store]
    assert body(*lines, movable="a b") == moved


def test_what_nobody_reads_goes() -> None:
    assert body("# gone", "a = x + 1", "# kept", "tl.store(y, 0)") == ["# kept", "tl.store(y, 0)"]


def test_a_name_is_used_again_only_when_it_is_dead() -> None:
    bases = {"a_2": "a"}
    dead = ["a = x + 1", "a_2 = a * 2", "tl.store(y, a_2)"]
    assert body(*dead, bases=bases) == ["a = x + 1", "a = a * 2", "tl.store(y, a)"]
    live = ["a = x + 1", "a_2 = a * 2", "tl.store(y, a + a_2)"]
    assert body(*live, bases=bases) == live
    again = ["a = x + 1", "for i in range(4):", "    a_2 = a * 2", "    tl.store(y, a_2)"]
    assert body(*again, bases=bases) == again
    apart = ["if x:", "    a = x + 1", "    tl.store(y, a)", "else:", "    a_2 = x * 0.5",
             "    tl.store(y, a_2)"]  # fmt: skip
    assert body(*apart, bases=bases) == apart
