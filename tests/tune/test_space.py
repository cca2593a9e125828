import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuning_spaces import every_row

from tilec.ir.errors import TileError
from tilec.tune import population
from tilec.tune.config import Config
from tilec.tune.population import Encoding, count, groups, neighbours, sample
from tilec.tune.space import Constraint, Parameter, Space

NUMBERS = st.lists(st.integers(1, 64), min_size=1, max_size=5, unique=True)
WORDS = st.lists(st.sampled_from(["row", "col", "z", "none"]), min_size=1, max_size=4, unique=True)
FLAGS = st.just([False, True])
RULES = ("p0 <= 40", "p0 * 2 >= p1", "p1 % 3 != 0", "p0 + p1 < 70", "p0 == p1 or p1 > 5", "p0 > 0")


@st.composite
def spaces(draw) -> Space:
    values = [draw(NUMBERS), draw(NUMBERS)]
    values += draw(st.lists(NUMBERS | WORDS | FLAGS, max_size=3))
    chosen = draw(st.lists(st.sampled_from(RULES), max_size=3, unique=True))
    space = Space(
        tuple(Parameter(f"p{i}", tuple(v)) for i, v in enumerate(values)),
        tuple(Constraint(c, "why") for c in chosen),
    )
    rows = every_row(space)
    if len(rows) and draw(st.booleans()):
        default = space.config(rows[draw(st.integers(0, len(rows) - 1))])
        space = Space(space.parameters, space.constraints, default)
    if len(rows) and draw(st.booleans()):
        listed = tuple(map(tuple, rows[:: draw(st.integers(1, 3))].tolist()))
        space = Space(space.parameters, space.constraints, rows=listed)
    return space


def brute(space: Space) -> list[Config]:
    """Every config, by trying all of them."""
    all_rows = product(*(range(n) for n in space.sizes))
    return [c for c in map(space.config, all_rows) if c in space]


@settings(deadline=None, max_examples=60)
@given(spaces())
def test_enumeration_is_all_that_is_valid(space):
    expected = brute(space)
    assert list(space) == expected
    assert count(space) == len(expected)
    for block in (every_row(space), *space.blocks(most=3)):
        assert space.holds(block).all()
    assert sum(map(len, space.blocks(most=3))) == len(expected)


@settings(deadline=None, max_examples=60)
@given(spaces())
def test_json_reads_back(space):
    again = Space.from_json(json.loads(space.text))
    assert again == space
    assert again.digest == space.digest


@settings(deadline=None, max_examples=40)
@given(spaces(), st.integers(0, 9))
def test_samples_neighbours_and_rows(space, seed):
    expected = brute(space)
    if not expected:
        with pytest.raises(TileError, match="no config satisfies"):
            sample(space, 3, np.random.default_rng(seed))
        return
    found = [space.config(r) for r in sample(space, 5, np.random.default_rng(seed))]
    assert len(set(found)) == len(found) == min(5, len(expected))
    assert set(found) <= set(expected)
    for config in found[:2]:
        row = np.array(space.row(config))
        assert space.config(row) == config
        far = {space.config(r) for r in neighbours(space, row, far=True)}
        near = {space.config(r) for r in neighbours(space, row)}
        differ = {c for c in expected if sum(c[n] != config[n] for n in space.names) == 1}
        assert near <= far == differ


def test_neighbours_step_by_value():
    space = Space((Parameter("n", (8, 1, 4, 2)), Parameter("w", ("a", "b", "c"))))
    found = {space.config(r).text for r in neighbours(space, np.array([2, 0]))}
    assert found == {"n=2,w=a", "n=8,w=a", "n=4,w=b", "n=4,w=c"}


def _large(condition: str) -> Space:
    values = tuple(range(1, 11))
    parameters = tuple(Parameter(f"x{i}", values) for i in range(12))
    return Space((*parameters, Parameter("w", ("a", "b"))), (Constraint(condition),))


def test_a_large_space_is_lazy_and_its_sample_fair():
    space = _large(" + ".join(f"x{i}" for i in range(12)) + " < 60")
    assert space.product == 2 * 10**12
    assert count(space) is None
    assert next(iter(space))["x0"] == 1
    rows = sample(space, 4000, np.random.default_rng(0))
    assert space.holds(rows).all()
    means = rows[:, :12].mean(0)
    assert np.ptp(means) < 0.35  # by symmetry all are the same; the spread of a mean is 0.045
    assert rows[:, 12].mean() == pytest.approx(0.5, abs=0.04)


def test_independent_groups_are_counted_and_drawn_apart():
    parameters = tuple(Parameter(f"x{i}", tuple(range(1, 11))) for i in range(12))
    rare = tuple(Constraint(f"x{i} * x{i + 1} >= 100") for i in range(0, 12, 2))
    space = Space(parameters, rare)  # one in 10^12: throwing away would meet none
    assert groups(space) == [(i, i + 1) for i in range(0, 12, 2)]
    assert count(space) == 1
    assert sample(space, 3, np.random.default_rng(0)).tolist() == [[9] * 12]


def test_a_small_sample_is_uniform():
    space = Space((Parameter("a", (1, 2, 3, 4)), Parameter("b", (1, 2, 3, 4))),
                  (Constraint("a + b <= 5"),))  # fmt: skip
    drawn = [tuple(sample(space, 1, np.random.default_rng(s))[0]) for s in range(2000)]
    counts = np.unique(np.array(drawn), axis=0, return_counts=True)[1]
    assert len(counts) == 10
    assert counts.min() > 140  # 200 expected, deviation 13
    assert counts.max() < 260


def test_features():
    space = Space(
        (
            Parameter("tile", (16, 64, 32)), Parameter("near", (10, 20, 30)),
            Parameter("w", ("a", "b", "c")), Parameter("on", (False, True)), Parameter("one", (7,)),
        )
    )  # fmt: skip
    found = Encoding.of(space).features(np.array([[2, 1, 0, 1, 0], [1, 2, 2, 0, 0]]))
    half = np.sqrt(0.5)
    assert found == pytest.approx(np.array([[0.5, 0.5, half, 0, 0, 1], [1, 1, 0, 0, half, 0]]))
    names = Encoding.of(space, exchangeable=True)
    apart = np.diff(names.features(np.array([[2, 1, 0, 1, 0], [1, 2, 2, 0, 0]])), axis=0)
    assert (apart**2).sum() == pytest.approx(4)
    assert names.groups.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]


SPACE = {
    "parameters": [
        {"name": "bm", "values": [16, 32]}, {"name": "order", "values": ["row", "col"]},
        {"name": "on", "values": [False, True]},
    ],
    "constraints": [{"condition": "bm < 32 or on", "reason": "the wide tile needs it on"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("bm=16,order=row", "on is missing"),
        ("bm=16,order=row,on=true,x=1", "x is no parameter"),
        ("bm=8,order=row,on=true", "bm is 8"),
        ("bm=16,order=row,on=1", "on is 1"),
        ("bm=true,order=row,on=true", "bm is True"),
        ("bm=32,order=row,on=false", "the wide tile needs it on"),
    ],
)
def test_a_bad_config_is_one_clear_error(text, why):
    with pytest.raises(TileError, match=why):
        Space.from_json(SPACE).row(Config.parsed(text))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"parameters": []}, "1 to 200"),
        ({"parameters": [{"name": "a", "values": []}]}, "0 values"),
        ({"parameters": [{"name": "a", "values": [1, 1.0]}]}, "twice"),
        ({"parameters": [{"name": "a", "values": [1, True]}]}, "mixes"),
        ({"parameters": [{"name": "a", "values": [1, "x"]}]}, "mixes"),
        ({"parameters": [{"name": "min", "values": [1]}]}, "something else"),
        ({"parameters": [{"name": "a", "values": [1]}] * 2}, "different names"),
        ({"parameters": [{"name": "a", "values": [1], "x": 1}]}, "'x' is no field"),
        ({"parameters": {"a": [1]}}, "expected an array"),
        ({"parameters": [{"name": ["a"], "values": [1]}]}, "name"),
        ({"constraints": [{"condition": "zz > 1"}]}, "zz is no parameter"),
        ({"constraints": [{"condition": 1}]}, "expected a string"),
        ({"default": {"bm": 16}}, "the default config: the parameter order is missing"),
        ({"default": {"bm": 32, "order": "row", "on": False}}, "needs it on"),
        ({"rows": [[0, 0]]}, "another length"),
        ({"rows": [[0, 0, 2]]}, "not there"),
        ({"rows": [[0, 0, -1]]}, "not there"),
        ({"rows": [[0, 0, 0], [0, 0, 0]]}, "twice"),
        ({"rows": [[0, 0, True]]}, "whole number"),
        ({"other": 1}, "'other' is no field"),
    ],
)
def test_a_bad_space_is_one_clear_error(change, why):
    with pytest.raises(TileError, match=why):
        Space.from_json({**SPACE, **change})


def test_a_listed_config_must_be_listed():
    space = Space.from_json({**SPACE, "rows": [[0, 0, 0], [1, 0, 1]]})
    assert [c.text for c in space] == ["bm=16,on=false,order=row", "bm=32,on=true,order=row"]
    with pytest.raises(TileError, match="not among the 2 configs"):
        space.row(Config.of({"bm": 16, "order": "col", "on": False}))
    assert population.ENUMERATED > 2
