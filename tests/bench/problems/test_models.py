"""Models as problems: what each contender computes is right; no time."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.bench.case import OURS, Made
from tilec.bench.peers import llama_cpp, torch_eager
from tilec.bench.problems.decoder import Decoder
from tilec.bench.problems.encoder import LAYERS
from tilec.bench.problems.layers import Weight
from tilec.bench.problems.linear import Linear
from tilec.bench.problems.models import Model
from tilec.bench.process import checked
from tilec.ir.errors import TileError
from tilec.runtime.tensor import PackedTensor

SMALL = {"wide": 256, "groups": 2, "heads": 2, "half": 32, "inner": 512}  # of a decoder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SMALL.items():
        monkeypatch.setattr(Decoder, name, value)


def _right(made: Made, tokens: int) -> None:
    known = checked(made)
    assert known.error is not None
    assert 0 < known.error < made.worst
    assert known.about["tokens"] == tokens
    assert known.nbytes > 0


@pytest.mark.parametrize("layers", [2, pytest.param(LAYERS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("weight", ["bf16", "int8", "int4"])
def test_the_encoder(weight: str, layers: int, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch")
    monkeypatch.setattr("tilec.bench.problems.encoder.LAYERS", layers)
    problem = Model("encoder", (2, 12), "bf16", weight)
    contenders = {**problem.ours(), **torch_eager.PEER.contenders(problem)}
    assert contenders.keys() == {OURS, f"torch eager {weight}", "torch eager bf16"}
    for make in contenders.values():
        _right(make(), 24)


def test_padding_is_not_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tilec.bench.problems.encoder.LAYERS", 2)
    problem = Model("encoder", (1, 12), "bf16", "bf16")
    made = problem.made()
    x, want = made.ours[0], made.want()
    x[6:] += 1  # the second half is padding: no token of the first sees it
    changed = made.want()
    assert np.array_equal(changed[:6], want[:6])
    assert not np.array_equal(changed[6:], want[6:])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("batch", [1, 3])
def test_the_decoder(batch: int):
    pytest.importorskip("torch")
    problem = Model("decoder", (batch, 20), "bf16", "int4")
    for make in (*problem.ours().values(), *torch_eager.PEER.contenders(problem).values()):
        _right(make(), batch)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ["q4_0", "q4_k"])
def test_the_decoder_of_llama_cpp(kind: str, batch: int, monkeypatch: pytest.MonkeyPatch):
    if why := llama_cpp.PEER.absent():
        pytest.skip(why)
    monkeypatch.setenv("TILEC_THREADS", "2")
    problem = Model("decoder", (batch, 20), "bf16", "int4")
    made = llama_cpp.PEER.contenders(problem)[f"llama.cpp {kind}"]()
    _right(made, batch)


def test_what_llama_cpp_knows():
    names = {"llama.cpp q4_0", "llama.cpp q4_k"}
    assert llama_cpp.PEER.contenders(Model("decoder", (1, 20), "bf16", "int4")).keys() == names
    for other in (Model("decoder", (1, 20)), Model("encoder", (1, 8), "bf16", "int4"),
                  Linear(1, 256, 512)):  # fmt: skip
        assert not llama_cpp.PEER.contenders(other)


@pytest.mark.parametrize("kind", ["int4", "int8"])
def test_codes_mean_the_same_to_all(kind: str):
    torch = pytest.importorskip("torch")
    weight, x = Weight(kind, 64, 256, 3), np.random.default_rng(1).standard_normal((2, 256))
    ours = weight.ours()
    assert isinstance(ours, PackedTensor)
    assert np.array_equal(ours.dequantize(), weight.dense)
    assert np.abs(weight.codes).max() > (100 if kind == "int8" else 6)
    given = torch.from_numpy(x).to(torch.bfloat16)
    want = weight.times(given.double().numpy())
    got = weight.theirs(torch)(given).double().numpy()
    assert np.linalg.norm(got - want) < 1e-2 * np.linalg.norm(want)


def test_a_layer_that_is_not_known():
    with pytest.raises(TileError, match="no layer is called 'convolution'"):
        Model("convolution", (1, 1)).made()
