"""The GPU suite without a GPU: the plan, cases that are right, and such as must be told apart."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from gpu_places import WAYS, tiny

from tilec.bench.gpu import CASES, chosen, dry_run, plan
from tilec.bench.gpu.case import Way
from tilec.bench.gpu.dry import tried
from tilec.bench.gpu.peers import PEERS
from tilec.bench.gpu.plan import LIMIT
from tilec.ir.errors import TileError
from tilec.lang.kernel import TensorSpec

pytest.importorskip("triton")


def test_every_row_of_the_table_has_a_case():
    assert {c.number for c in CASES} == set(range(33))
    assert len({c.name for c in CASES}) == len(CASES)
    assert {p for c in CASES for p in c.peers} <= set(PEERS)
    assert all({w.backend for w in c.ways} <= {"cuda", "triton"} and c.ways for c in CASES)


@pytest.mark.parametrize(("name", "microseconds"), [
    ("w4a16 1;28672,4096", 20.2), ("w4a16 16;8192,8192", 11.7), ("w4a16 256;8192,8192", 43),
    ("fp8 rowwise 4096;28672,4096", 641), ("prefill d128 bf16 causal 16k", 2749),
    ("decode bf16 B64 8k", 716), ("2:4 bf16 4096;8192,8192", 344), ("softmax 8192x128256", 1401),
])  # fmt: skip
def test_floors_are_those_of_the_table(name, microseconds):
    (case,) = (c for c in CASES if c.name == name)
    assert case.floor * 1e6 == pytest.approx(microseconds, rel=0.02)


def test_samples_and_numbers_are_those_of_the_kernels():
    for c in CASES:
        assert set(c.sample) <= set(c.dims), c.name
        assert set(c.small) <= set(c.dims), c.name
        params = c.definition.signature.params
        assert {p.name for p in params if not isinstance(p.spec, TensorSpec)} == set(c.numbers)
        assert c.ceiling in ("read", "copy", "arithmetic")


def test_the_plan_begins_with_the_most_wanted_and_ends_in_time():
    found = plan(chosen())
    assert [p.case.turn for p in found] == sorted(p.case.turn for p in found)
    assert sum(p.seconds for p in found) < LIMIT
    assert {c.name for c in chosen(quick=True)} < {p.case.name for p in found}
    assert {c.number for c in chosen("#26")} == {26}
    with pytest.raises(TileError, match="has 'nothing like it' in its name"):
        chosen("nothing like it")


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.backend)
@pytest.mark.parametrize("w", ["int4<group=64>", pytest.param("f16", marks=pytest.mark.slow)])
def test_a_case_is_right_on_each_back_end(way, w):
    found = tried(tiny(w), way)
    assert found.state in ("ok", "slow"), found.wrong
    assert found.ran is not None
    assert found.ran.errors["y"] < 1e-3
    assert found.judged is not None
    assert found.judged.ctas > 0
    assert (found.judged.mma != {}) == (not way.instruction or found.remarks == [])
    json.dumps(found.to_json())


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.backend)
def test_a_wrong_result_is_told(way):
    case = tiny("f16")
    off = replace(case, meaning=lambda v, d: {"y": 1.01 * case.meaning(v, d)["y"]})
    found = tried(off, way)
    assert found.state == "wrong"
    assert found.wrong == ["y is off by 9.9e-03, expected at most 2.0e-03"]


def test_what_does_not_compile_is_told():
    found = tried(tiny("f16"), Way("cuda", "q=16"))
    assert found.state == "wrong"
    assert "no loop is called q" in found.wrong[0]


def test_a_refusal_is_listed_and_an_acceptance_instead_of_it_is_told():
    way = Way("cuda", "instruction=wgmma,threads=64", refused="a warpgroup has 128 threads")
    known = tried(tiny("f16"), replace(WAYS[0], schedule="q=16", refused="no loop is called q"))
    assert (known.state, known.wrong) == ("refused", [])
    surprise = tried(tiny("f16"), replace(WAYS[0], refused=way.refused))
    assert surprise.wrong == ["expected a refusal: a warpgroup has 128 threads"]


def test_another_instruction_than_wanted_is_a_remark():
    found = tried(tiny("f16"), replace(WAYS[0], instruction="IMMA"))
    assert found.state == "slow"
    assert found.remarks[0].startswith("no IMMA in the main loop: HMMA")


@pytest.mark.slow
def test_the_quick_selection():
    found = dry_run(chosen(quick=True), jobs=2)
    assert [f.wrong for f in found if f.state == "wrong"] == []
    assert {f.way.backend for f in found} == {"cuda", "triton"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_case():
    found = dry_run(chosen(), jobs=2)
    assert {(f.case, f.way.name): f.wrong for f in found if f.state == "wrong"} == {}
