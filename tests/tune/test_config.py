import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilec.ir.errors import TileError
from tilec.tune.config import LARGEST, Config

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
WORDS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:/+-]{0,20}", fullmatch=True).filter(
    lambda w: w not in ("true", "false", "inf", "nan")
)
NUMBERS = st.floats(-LARGEST, LARGEST, allow_nan=False)
VALUES = st.booleans() | st.integers(-LARGEST, LARGEST) | NUMBERS | WORDS


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_text_and_json_read_back(chosen):
    config = Config.of(chosen)
    for again in (Config.parsed(config.text), Config.from_json(config.to_json())):
        assert again == config
        assert again.digest == config.digest
        assert hash(again) == hash(config)
    assert dict(config) == chosen
    assert Config.of(dict(reversed(chosen.items()))) == config


def test_kinds_are_told_apart():
    assert Config.of({"a": True}) != Config.of({"a": 1})
    assert Config.of({"a": 2.0}) == Config.of({"a": 2})
    assert Config.of({"a": 2.5}).text == "a=2.5"
    assert len({Config.of({"a": True}), Config.of({"a": 1}), Config.of({"a": 1.0})}) == 2


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53 + 1, "", "a b", "=x", "a\n", "true", None, [1], "é"]
)
def test_what_is_no_value_is_refused(value):
    with pytest.raises(TileError, match="a config: a"):
        Config.of({"a": value})


@pytest.mark.parametrize("name", ["", "a b", "1a", "a.b", "a" * 65, "a=b", 'a"'])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(TileError, match="a config"):
        Config.of({name: 1})


@pytest.mark.parametrize("text", ["a", "a=", "a=1,a=2", "=1", "a=1,", "a=1;b=2", "a=0x10", "a=1_0"])
def test_what_is_no_config_is_refused(text):
    with pytest.raises(TileError, match="a config"):
        Config.parsed(text)
