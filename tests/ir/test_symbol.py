"""Names, comments and strings in generated text."""

import re

import pytest

from tilec.ir.symbol import comment, quoted, symbol

EVIL = [
    'a"b', "a'b", "a\nb", "a\rb", "*/ int x;", "a*/b", '#include "x"', "a\0b", "a\u202eb",
    "a" * 10_000,
    "../../x", "-o/x", ";rm -rf x", "`x`", "$(x)", "%s%n", "a b", "", "é", "ядро", "1a", "\ud800",
    "a\u2028b", "tilec_parallel", "__shared__", "a\\",
]  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_symbols_are_short_words(name):
    found = symbol(name)
    assert re.fullmatch(r"[a-z][A-Za-z0-9_]{0,63}", found)
    assert not found.startswith("tilec_")
    assert symbol(found) == found


def test_ordinary_names_stay():
    for name in ("linear", "_k", "Linear2", "x_y_z", "a" * 63):
        assert symbol(name) == name


def test_symbols_of_different_names_differ():
    assert len({symbol(name) for name in EVIL}) == len(EVIL)


@pytest.mark.parametrize("text", EVIL)
def test_comments_and_strings_are_of_one_line(text):
    for shown in (comment(text), quoted(text)):
        assert len(f"{shown}.".splitlines()) == 1
        assert shown.isprintable()
    assert not comment(text).endswith("\\")
    inside = quoted(text)[1:-1]
    assert not {'"', "\\"} & set(inside)
