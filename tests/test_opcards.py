"""Every op has its whole life: meaning, typing, code or a reason in each back end, tests."""

import re

import pytest

from tilec.ir.core import Op
from tilec.ir.errors import TileError
from tilec.opcard import ROOT, backends, card, made_by_passes, names


@pytest.mark.parametrize("name", Op.registry)
def test_card(name):
    found = card(name)
    assert any(sign in found.meaning.split("\n")[0] for sign in ("=", "body(")), "no formula"
    assert found.typed.startswith("ir/ops/")
    assert "ir/ops/" in found.evaluated or found.evaluated.startswith("by the interpreter")
    assert set(found.fields) == set(Op.registry[name].__dataclass_fields__) - {"results", "loc"}
    if made_by_passes(Op.registry[name]):
        assert any(t.startswith("tests/ir/ops") for t in found.tests), "nothing tests it"
    else:
        assert found.written, "no line of opcard's sample makes it"
        assert re.match(rf"(%[\w, %]+ = )?{name}( |$)", found.ir)
        assert {"tests/programs.py", "tests/conformance.py"} & set(found.tests), "not generated"
    assert found.text().startswith(f"{name}\n  {found.meaning.splitlines()[0]}\n")


@pytest.mark.parametrize("name", Op.registry)
def test_the_code_of_a_back_end_is_where_the_card_says(name):
    found = backends(Op.registry[name])
    assert set(found) == {"cpu", "triton", "cuda"}
    for backend, how in found.items():
        if how.startswith("none: "):
            assert len(how) > 20, "no reason"
        else:
            assert how.startswith(f"codegen/{backend}/")
            assert (ROOT / how).is_file()


def test_names_are_the_registry():
    assert names() == list(Op.registry)


def test_unknown_op():
    with pytest.raises(TileError, match="no op is called 'dott'") as e:
        card("dott")
    assert e.value.hint == "did you mean 'dot'?"
