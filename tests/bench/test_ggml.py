"""The peer ggml: why it is absent, and its products where its libraries are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tilec.bench.case import difference
from tilec.bench.peers.ggml import FILES, PEER
from tilec.bench.problems.attention import Attention
from tilec.bench.problems.linear import Linear


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TILEC_GGML", str(tmp_path))
    return tmp_path


def test_says_which_library_is_missing(nowhere: Path):
    assert PEER.absent() == f"there is no {FILES[0]} in {nowhere}"
    (nowhere / FILES[0]).touch()
    assert PEER.absent() == f"there is no {FILES[1]} in {nowhere}"


@pytest.mark.skipif(find_spec("llama_cpp") is not None, reason="llama-cpp-python is installed")
def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TILEC_GGML", raising=False)
    assert "llama-cpp-python is not installed" in PEER.absent()


@pytest.mark.parametrize(
    ("weight", "names"),
    [
        ("int4<group=128, scale=bf16>", {"ggml q4_0", "ggml q4_k"}),
        ("int8<channel, scale=bf16>", {"ggml q8_0"}),
        ("mxfp4", {"ggml mxfp4"}),
        ("bf16", {"ggml bf16"}),
        ("f32", set[str]()),
    ],
)
def test_takes_the_types_that_have_as_many_bits(weight: str, names: set[str]):
    assert PEER.contenders(Linear(1, 256, 512, weight)).keys() == names


def test_knows_nothing_of_attention():
    assert not PEER.contenders(Attention(1, 64, False, "bf16"))


@pytest.mark.slow
@pytest.mark.parametrize("m", [1, 5])
@pytest.mark.parametrize("weight", ["int4<group=128, scale=bf16>", "int6<group=128, scale=bf16>",
                                    "mxfp4", "bf16"])  # fmt: skip
def test_its_products_are_right(weight: str, m: int, monkeypatch: pytest.MonkeyPatch):
    if why := PEER.absent():
        pytest.skip(why)
    monkeypatch.setenv("TILEC_THREADS", "2")
    for make in PEER.contenders(Linear(m, 64, 512, weight)).values():
        made = make()
        assert made.want is not None
        assert difference(made.got(made.calls[0]()), made.want()) < made.worst
