"""Programs that are called: on arrays and tensors, with packed weights, and what is refused."""

# The names in a program have types of the language.
# pyright: basic, reportInvalidTypeForm=false

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from fake_driver import FakeDriver
from lang.spelled_programs import PROGRAMS, linear, rng

import tilec as tc
from tilec.compile import engine
from tilec.gpu import Choice
from tilec.ir.choices import LINE
from tilec.ir.dtype import f16, f32
from tilec.ir.named import named
from tilec.lang.kernel import TensorSpec
from tilec.program import LONG, Program
from tilec.runtime.gpu import Gpu


@tc.program
def layer(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], b: tc.Tensor["N"]):
    return tc.silu(x @ w.T + b).to(x.dtype), tc.argmax(b)


@tc.program
def through(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"], a: tc.f32):
    h = tc.empty("M", "K")
    h = x * a
    linear(h, w, y)


@tc.program
def total(x: tc.Tensor["M"]):
    return tc.sum(x)


def silu(z: np.ndarray) -> np.ndarray:
    return z / (1 + np.exp(-z))


@pytest.mark.parametrize("name", PROGRAMS)
def test_calls_give_what_numpy_says(name):
    case = PROGRAMS[name]
    args = {}
    for p in case.program.definition.signature.params:
        assert isinstance(p.spec, TensorSpec)
        shape = [case.dims.get(str(d), 0) for d in p.spec.dims]
        args[p.name] = np.array(case.given.get(p.name, np.full(shape, np.nan, np.float32)))
    got = case.program(*args.values())
    exact = {n: x.astype(float) if x.dtype.kind == "f" else x for n, x in case.given.items()}
    want = case.want(**exact)
    if case.into:
        assert got is None
        got = tuple(args[n] for n in case.into)
    pairs = zip(*(x if isinstance(x, tuple) else (x,) for x in (got, want)), strict=True)
    for g, w in pairs:
        assert g.shape == w.shape
        assert g.dtype == np.float32
        assert np.linalg.norm(g - w) <= 1e-6 * np.linalg.norm(w)


def test_dimensions_of_which_only_multiples_are_there():
    @tc.program
    def halves(x: tc.Tensor["M", "2*H"]):
        return x[:, : tc.extent("H")] + x[:, tc.extent("H") :]

    x = rng(1, 3, 10)
    assert np.array_equal(halves(x), x[:, :5] + x[:, 5:])
    with pytest.raises(tc.TileError, match=r"a dimension of `x` is 9, expected 2\*H = 8"):
        halves(rng(1, 3, 9))


def test_packed_weights_and_new_shapes():
    b = rng(3, 24)
    w = tc.quantize(rng(2, 24, 64), "int4<group=32>")
    for m in (1, 5):
        x = rng(m, m, 64)
        y, i = layer(x, w, b)
        want = silu(x.astype(float) @ w.dequantize().astype(float).T + b)
        assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)
        assert (i.dtype, i.shape, int(i)) == (np.int32, (), int(np.argmax(b)))


def test_results_have_the_dtype_of_the_program():
    x, w, b = (rng(s, *shape).astype(np.float16) for s, shape in enumerate([(3, 8), (4, 8), (4,)]))
    y, _ = layer(x, w, b)
    want = silu(x.astype(float) @ w.astype(float).T + b)
    assert y.dtype == np.float16
    assert np.linalg.norm(y - want) <= 2e-3 * np.linalg.norm(want)


def test_numbers_and_scalar_results():
    x, w = rng(1, 5, 8), rng(2, 6, 8)
    y = np.full((5, 6), np.nan, np.float32)
    assert through(x, w, y, 0.5) is None
    want = x.astype(float) @ w.astype(float).T / 2
    assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)
    assert float(total(np.arange(7, dtype=np.float32))) == 21.0


@tc.program
def doubled(x: tc.Tensor["M", "N"]):
    return x + x


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("columns", [3, 1000, 1021])
def test_long_results_begin_with_a_cache_line(dtype, columns):
    x = rng(1, 400, columns).astype(dtype)
    several = [doubled(x) for _ in range(4)]
    for y in several:
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        assert y.flags.c_contiguous
        assert y.flags.writeable
        assert y.ctypes.data % LINE == 0 or y.nbytes < LONG
    several[0][:] = 7  # each has memory of its own
    assert all(y.tobytes() == (x + x).tobytes() for y in several[1:])


@tc.program
def step(x: tc.Tensor["M"], y: tc.Tensor["M"]):
    return x * y + 1.0


@tc.program
def steps(x: tc.Tensor["M"], y: tc.Tensor["M"]):
    six = step(step(step(step(step(step(x, y), y), y), y), y), y)
    return step(step(step(step(six, y), y), y), y)


@tc.program
def hundred(x: tc.Tensor["M"], y: tc.Tensor["M"]):
    five = steps(steps(steps(steps(steps(x, y), y), y), y), y)
    return steps(steps(steps(steps(steps(five, y), y), y), y), y)


@tc.program
def long_chain(x: tc.Tensor["M"], y: tc.Tensor["M"]):
    return hundred(hundred(hundred(x, y), y), y)


def test_a_chain_of_hundreds_of_steps():
    x, y = rng(1, 40), rng(2, 40).astype(np.float32) / 4
    want = x = x.astype(np.float32)
    for _ in range(300):
        want = want * y + np.float32(1)
    assert np.array_equal(long_chain(x, y), want)


def test_tensors_of_torch_give_tensors_of_torch():
    torch = pytest.importorskip("torch")
    x, w, b = (torch.from_numpy(rng(s, *shape)).to(torch.bfloat16)
               for s, shape in enumerate([(3, 8), (4, 8), (4,)]))  # fmt: skip
    y, _ = layer(x, w, b)
    assert y.dtype == torch.bfloat16
    want = torch.nn.functional.silu(x.double() @ w.double().T + b.double())
    assert torch.linalg.norm(y.double() - want) <= 1e-2 * torch.linalg.norm(want)


@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_a_gpu_makes_all_launches(backend):
    """The kernel of a program whose product is in memory of its own, by a driver that runs PTX."""
    if backend == "triton":
        pytest.importorskip("triton")
    fake = FakeDriver()
    gpu = Gpu(fake.driver, engine().machine, engine().object)
    program = Program(through.definition, Choice(backend, image="ptx"), gpu)
    x, w = rng(1, 20, 64), rng(2, 24, 64)
    y = np.full((20, 24), np.nan, np.float32)
    kernel = program.kernel(x=f32, w=f32, y=f32)
    fake.hold(x, w, y)
    kernel(x, w, y, 0.5)
    want = x.astype(float) @ w.astype(float).T / 2
    assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)
    assert len(fake.launched) >= 1


def test_what_is_refused():
    x, w, b = rng(1, 3, 8), rng(2, 4, 8), rng(3, 4)
    with pytest.raises(tc.TileError, match="layer takes 3 arguments, not 2"):
        layer(x, w)
    with pytest.raises(tc.TileError, match="dimension K of `w` is 7, but `x` has K = 8"):
        layer(x, w[:, :7].copy(), b)
    with pytest.raises(tc.TileError, match=r"`b` is 1\.0, expected a tensor"):
        layer(x, w, 1.0)
    with pytest.raises(tc.TileError, match="`result1` is f32, expected i32"):
        layer.kernel(x=f32, w=f32, b=f32)(x, w, b, np.empty((3, 4), np.float32), rng(1))
    rotary = PROGRAMS["turned"].program
    with pytest.raises(tc.TileError, match=r"a dimension of `x` is 7, expected 2\*H = 8"):
        rotary(rng(1, 2, 5, 7), rng(2, 5, 4), rng(3, 5, 4))


def test_source_and_explanation():
    types = {"x": f16, "w": named("int4<group=32>"), "b": f16}
    assert "define" in layer.source(types, {"M": 2, "N": 8, "K": 32})
    found = layer.explain(types, {"M": 2, "N": 8, "K": 32})
    assert found.dims == {"M": 2, "N": 8, "K": 32}
    assert "layer with M = 2" in str(found)
