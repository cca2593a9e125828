"""What the suites time is right, and counted; no time. Peers are checked the same way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tilec.bench.case import OURS, difference
from tilec.bench.memory import peak
from tilec.bench.peers import peers
from tilec.bench.problems import attention, compiled, layered, layers, linear, pruned, routed
from tilec.bench.problems.attention import Attention
from tilec.bench.problems.compiled import Compiled
from tilec.bench.problems.layered import Layered
from tilec.bench.problems.linear import Linear
from tilec.bench.problems.pruned import Pruned
from tilec.bench.problems.routed import Routed
from tilec.bench.process import checked
from tilec.ir.errors import TileError

CODES = "int8<channel, scale=f32>"
KNOWN = {  # problems, with the bytes and operations of a call
    Linear(2, 256, 128): (256 * (64 + 2), 2 * 2 * 256 * 128),
    Linear(1, 64, 128, "f32", "f32"): (64 * 128 * 4, 2 * 64 * 128),
    Linear(17, 64, 128, "int4<channel, scale=f32>", CODES): (64 * 68, 2 * 17 * 64 * 128),
    Pruned(2, 64, 64, "block<16, 16, f32>", 0.3, 16): (None, 2 * 2 * 64 * 64 * 0.3),
    Pruned(1, 64, 64, "bitmap<bf16>", 0.3): (None, 2 * 64 * 64 * 0.3),
    Pruned(1, 64, 64, "nm<2, 4, bf16>", 0.5, 0): (None, 64 * 64),
    Attention(1, 128, True): (2 * 8 * 128 * 128 * 2, 32 * 128 * 128 * 4),
    Attention(1, 128, True, cache="paged"): (2 * (8 * 128 * 128 * 2 + 8), 32 * 128 * 128 * 4),
    Attention(1, 128, True, cache="int8<group=128>"): (2 * 8 * 128 * 130, 32 * 128 * 128 * 4),
    Attention(8, 8, True, "f32"): (2 * 8 * 8 * 128 * 4, 32 * 8 * 8 * 128 * 2),
    Attention(16, 16, False): (2 * 8 * 16 * 128 * 2, 32 * 16 * 16 * 128 * 4),
    Routed(5, 8, 2, 64, 128): (None, 2 * 5 * 2 * 64 * 128),
    Routed(5, 8, 2, 64, 128, "bf16"): (None, 2 * 5 * 2 * 64 * 128),
    Layered("softmax", (5, 70), "f32"): (2 * 5 * 70 * 4, 0),
    Layered("rms-linear", (3, 64, 256), "bf16", "int4"): (None, 2 * 3 * 64 * 256),
}  # fmt: skip


@pytest.fixture(autouse=True)
def few_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilec.bench.case.rotated", lambda: 1 << 18)


@pytest.mark.parametrize("problem", KNOWN, ids=str)
def test_ours_is_right_and_counted(problem) -> None:
    nbytes, operations = KNOWN[problem]
    for make in problem.ours().values():
        made = make()
        known = checked(made)
        assert known.error is not None
        assert known.error > 0
        assert known.operations == pytest.approx(operations)
        assert known.nbytes > 0
        assert nbytes is None or known.nbytes == nbytes
        first, last = (np.array(made.got(call())) for call in (made.calls[0], made.calls[-1]))
        assert (first == last).all()


def test_what_one_row_reads_comes_from_memory() -> None:
    for one, many in (
        (Linear(1, 64, 128), Linear(2, 64, 128)),
        (Attention(1, 16, True), Attention(8, 8, True)),
        (Pruned(16, 64, 64, "csr<f32>", 0.1), Pruned(17, 64, 64, "csr<f32>", 0.1)),
    ):
        assert len(one.ours()[OURS]().calls) > 1
        assert len(many.ours()[OURS]().calls) == 1


def test_few_tokens_go_to_other_experts_each_time() -> None:
    problem = Routed(1, 8, 2, 64, 128, "bf16")
    made, w = problem.ours()[OURS](), problem.stored()
    assert isinstance(w, np.ndarray)
    seen = [problem.want(w, r) for r in problem.routings()]
    assert len(made.calls) == len(seen) == 4
    for call, want in zip(made.calls, seen, strict=True):
        assert difference(made.got(call()), want) < 1e-6
    assert all(difference(x, seen[0]) > 0.5 for x in seen[1:])


@pytest.mark.parametrize(("module", "problem"), [
    (linear, Linear(2, 64, 128)), (attention, Attention(8, 8, True)),
    (pruned, Pruned(1, 64, 64, "bitmap<bf16>", 0.3)), (routed, Routed(5, 8, 2, 64, 128)),
    (layered, Layered("rms", (4, 64), "f32")), (compiled, Compiled(Layered("rms", (4, 64)), True)),
], ids=lambda x: getattr(x, "__name__", ""))  # fmt: skip
def test_a_wrong_result_is_refused(module, problem) -> None:
    made = problem.ours()[OURS]()
    assert made.want is not None
    want = made.want()
    with pytest.raises(TileError, match="its relative error is"):
        checked(replace(made, want=lambda: want + 0.05 * np.abs(want).max()))
    assert difference(want, want) == 0


FUSED = {
    Layered("softmax", (5, 70), "f32"): 1,
    Layered("layer-norm", (5, 70), "bf16"): 1,
    Layered("rotary", (2, 3, 24), "bf16"): 1,
    Layered("rms-linear", (3, 72, 256), "bf16", "int4"): 1,
    Layered("mlp", (2, 128, 256), "bf16", "int4"): 1,
    Layered("cross-entropy", (20, 300), "f32"): 1,
    Layered("linear-cross-entropy", (20, 300, 64), "bf16", "bf16"): 1,
}


@pytest.mark.parametrize("layer", FUSED, ids=str)
def test_layers_are_right_in_few_kernels(layer: Layered) -> None:
    known = checked(layer.ours()[OURS]())
    about = known.about
    assert about["kernels"] == FUSED[layer] < about["unfused_kernels"]
    assert about["compulsory"] <= about["moved"]
    assert known.peak is not None
    assert known.peak >= about["kept"]


def test_a_wrong_layer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Layered("rms", (4, 64), "f32")
    with monkeypatch.context() as m:
        m.setattr(layers, "EPS", 0.5)
        other = case.made()  # its program gets another number than torch and doubles do
    monkeypatch.setattr(Layered, "made", lambda _: other)
    with pytest.raises(TileError, match="its relative error is"):
        checked(case.ours()[OURS]())


def test_unknown_words_are_refused() -> None:
    with pytest.raises(TileError, match="no layer is called 'swish'"):
        Layered("swish", (4, 64)).made()


def test_compiles_are_of_new_code_or_of_what_is_there(monkeypatch, tmp_path) -> None:
    from tilec.observe.stages import listening

    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path))
    for cached in (False, True):
        made = Compiled(Layered("softmax", (4, 64), "f32"), cached).ours()[OURS]()
        checked(made)
        with listening((found := []).append):
            made.calls[0]()
        assert [c.cached for c in found] == [cached]


def test_the_peak_counts_what_a_call_touches() -> None:
    size = 32 << 20
    assert size <= peak(lambda: np.ones(size, np.uint8)) < size + (4 << 20)


PEERS = [
    (p.name, name, problem) for p in peers() if not p.absent() and p.name != "torch.compile"
    for problem in KNOWN for name in p.contenders(problem)
]  # fmt: skip


@pytest.mark.parametrize(("peer", "name", "problem"), PEERS, ids=str)
def test_peers_are_right(peer: str, name: str, problem) -> None:
    (found,) = peers([peer])
    assert checked(found.contenders(problem)[name]()).error is not None


SLOW = [Attention(64, 64, True), Layered("softmax", (5, 70), "f32"),
        Compiled(Layered("softmax", (5, 70), "f32"), False)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("problem", SLOW, ids=str)
def test_compiled_peers_are_right(problem) -> None:
    for p in peers(["torch.compile", "triton"]):
        for make in p.contenders(problem).values():
            checked(make())
