"""Quantised weights on GPUs: where they are, what runs, and what a graph may hold.

Tensors without data stand for those of a GPU, or a driver that runs PTX on this processor takes the
CPU's memory for a GPU's. What is marked `gpu` needs a real one.
"""

# What a module has under a name may be a tensor or a module.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from fake_driver import FakeDriver
from launched import gpu_of
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

import tilec as tc
from tilec.torch import QuantizedTensor, load_, quantize_, register
from tilec.torch.execution import Execution, on_gpus
from tilec.torch.form import form_of, form_on
from tilec.torch.operators import relaid

GPU = torch.device("cuda:0")
FORMATS = ("int4<group=32>", "uint3<group=32, zero=int>", "int8")


def weight(format: str = "int4<group=32>", n: int = 32, k: int = 64) -> QuantizedTensor:
    w = np.random.default_rng(n + k).standard_normal((n, k)).astype(np.float32)
    return QuantizedTensor.of(tc.quantize(w, format))


def there(q: QuantizedTensor) -> QuantizedTensor:
    """As it would be laid out on a GPU, in memory that the pretended one has."""
    form = form_on(q.form, "cuda")
    return QuantizedTensor(relaid(q.stored, q.form, form), form, q.dtype)


def x(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).half()


def close(a: Tensor, b: Tensor, bound: float = 2e-3) -> None:
    assert a.shape == b.shape
    assert (a.double() - b.double()).norm() <= bound * b.double().norm()


# -- where a weight is, without data --


@pytest.mark.parametrize("format", [*FORMATS, "nvfp4", "nm<2, 4, f16>"])
def test_a_weight_goes_to_a_gpu_and_back(format: str) -> None:
    q = weight(format)
    with FakeTensorMode() as mode:
        fake = QuantizedTensor(mode.from_tensor(q.stored), q.form, q.dtype)
        on = fake.to(GPU)
        assert on.device == on.stored.device == GPU
        assert on.form == form_on(q.form, "cuda")
        assert on.stored.nbytes == form_of(on.form).nbytes
        assert functional.linear(x(3, 64).to(GPU), on).device == GPU
        assert (x(3, 32).to(GPU) @ on).shape == (3, 64)
        assert on.dequantize().device == GPU
        back = on.to("cpu")
        assert (back.form, back.device.type) == (q.form, "cpu")
        assert on.to(torch.bfloat16).form == on.form
        assert torch.empty_like(fake, device=GPU).form == on.form


@pytest.mark.parametrize("format", [*FORMATS, "nvfp4", "nm<2, 4, f16>"])
def test_what_is_laid_out_anew_is_the_same_weight(format: str) -> None:
    q = weight(format)
    on = there(q)
    assert torch.equal(on.dequantize(), q.dequantize())
    assert torch.equal(relaid(on.stored, on.form, q.form), q.stored)
    with pytest.raises(tc.TileError, match="in that layout, expected"):
        relaid(q.stored, q.form, on.form.rpartition(" ")[0] + " 640000")


def test_a_model_moves() -> None:
    model = nn.Sequential(nn.Linear(64, 32), nn.Embedding(32, 64))
    quantize_(model, "int4<group=32>", kinds=(nn.Linear, nn.Embedding), progress=False)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model.to(GPU)
        assert {p.device for p in model.parameters()} == {GPU}
        traced = make_fx(model[0])(torch.empty(2, 64, device=GPU))
        (node,) = (n for n in traced.graph.nodes if n.target is torch.ops.tilec.linear.default)
        assert (node.meta["val"].device, node.meta["val"].shape) == (GPU, (2, 32))
        assert model.state_dict()["1.weight.stored"].device == GPU
        assert type(model[0].weight) is QuantizedTensor


def test_a_state_dict_of_a_gpu_loads_on_the_cpu() -> None:
    """The layout of a state dict is that of the device that it is from."""
    model, other = nn.Sequential(nn.Linear(64, 32)), nn.Sequential(nn.Linear(64, 32))
    quantize_(model, "int4<group=32>", progress=False)
    on = there(model[0].weight)
    state = dict(model.state_dict())
    state["0.weight.stored"] = on.stored
    state["0.weight.form"] = torch.tensor(list(on.form.encode()), dtype=torch.uint8)
    load_(other, state)
    assert other[0].weight.form == model[0].weight.form
    assert torch.equal(other[0].weight.stored, model[0].weight.stored)
    model[0].weight.stored.zero_()
    model.load_state_dict(state)
    assert torch.equal(other[0].weight.stored, model[0].weight.stored)


def test_other_devices_are_refused() -> None:
    q = weight()
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        pytest.raises(tc.TileError, match="on the CPU or on an NVIDIA GPU, not on xpu"),
    ):
        q.to("xpu:0")


def test_what_is_multiplied_must_be_where_the_weight_is(on_fake: Execution) -> None:
    q = weight()
    with pytest.raises(tc.TileError, match="x is on meta, and the quantised weight on cpu"):
        on_fake.linear(x(3, 64).to("meta"), q.stored, None, q.form)


# -- what runs --


@pytest.fixture
def fake() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def on_fake(fake: FakeDriver) -> Execution:
    return on_gpus(lambda: fake.driver, gpu_of(fake), image="ptx")


class Memory:
    """Results are made in memory that the pretended GPU knows."""

    def __init__(self, fake: FakeDriver, *given: Tensor) -> None:
        self.fake = fake
        fake.hold(*given)

    def __enter__(self) -> None:
        self.real = torch.Tensor.new_empty, torch.empty
        torch.Tensor.new_empty = lambda *a, **k: self.held(self.real[0](*a, **k))
        torch.empty = lambda *a, **k: self.held(self.real[1](*a, **k))

    def held(self, made: Tensor) -> Tensor:
        if made.numel():
            self.fake.hold(made)
        return made

    def __exit__(self, *_: object) -> None:
        torch.Tensor.new_empty, torch.empty = self.real


@pytest.mark.parametrize(
    "format", [FORMATS[0], *(pytest.param(f, marks=pytest.mark.slow) for f in FORMATS[1:])]
)
def test_operators_run_where_the_memory_is(
    fake: FakeDriver, on_fake: Execution, format: str
) -> None:
    q = weight(format)
    on, w, bias = there(q), q.dequantize(), x(32)
    for rows in (3, 40) if format == FORMATS[0] else (3,):
        at, back, ids = x(rows, 64), x(rows, 32), torch.arange(rows) % 32
        with Memory(fake, on.stored, at, back, bias, ids):
            close(on_fake.linear(at, on.stored, None, on.form), at.float() @ w.T)
            close(on_fake.linear(at, on.stored, bias, on.form), at.float() @ w.T + bias)
            close(on_fake.transposed(back, on.stored, on.form), back.float() @ w)
            assert torch.equal(on_fake.embedding(ids, on.stored, on.form, torch.float32), w[ids])
    with Memory(fake, on.stored):
        assert torch.equal(on_fake.dequantize(on.stored, on.form, torch.float32), w)
    assert not fake.trouble


def test_any_number_of_rows_is_one_build_and_one_launch(
    fake: FakeDriver, on_fake: Execution
) -> None:
    on = there(weight())
    for rows in (17, 40, 90):
        at = x(rows, 64)
        fake.launched.clear()
        with Memory(fake, on.stored, at):
            on_fake.linear(at, on.stored, None, on.form)
        assert len(fake.launched) == 1
    assert fake.calls.count("cuModuleLoadData") == 1


def test_rows_that_are_there_are_not_copied(fake: FakeDriver, on_fake: Execution) -> None:
    q = weight("int8")
    for form, stored, copied in (
        (q.form, q.stored, True), (there(q).form, there(q).stored, False)
    ):  # fmt: skip
        with Memory(fake, stored):
            on_fake.dequantize(stored, form, torch.float32)
        assert (on_fake.weight(stored, form).nbytes > 0) == copied


def test_a_weight_is_forgotten_with_its_memory(fake: FakeDriver, on_fake: Execution) -> None:
    q = weight()
    at = x(3, 64)
    with Memory(fake, q.stored, at):
        on_fake.linear(at, q.stored, None, q.form)
    assert fake.held() > 0
    assert on_fake.weight(q.stored, q.form) is on_fake.weight(q.stored.view(-1), q.form)
    fake.forget(q.stored)
    del q
    gc.collect()
    assert fake.held() == 0


def test_a_weight_that_is_written_to_is_made_ready_again(
    fake: FakeDriver, on_fake: Execution
) -> None:
    q, other = weight(), weight("int4<group=32>", 32, 64)
    other.stored.copy_(QuantizedTensor.of(tc.quantize(np.ones((32, 64)), "int4<group=32>")).stored)
    at = x(3, 64)
    with Memory(fake, q.stored, at):
        on_fake.linear(at, q.stored, None, q.form)
        q.stored.copy_(other.stored)
        close(on_fake.linear(at, q.stored, None, q.form), at.float() @ other.dequantize().T)


# -- what a graph may hold --


def test_after_the_first_call_an_operator_is_a_launch(fake: FakeDriver, on_fake: Execution) -> None:
    on, at = there(weight()), x(3, 64)

    def call() -> Tensor:
        return on_fake.linear(at, on.stored, None, on.form)

    with Memory(fake, on.stored, at):
        fake.captured = {7}
        fake.stream = 7
        with pytest.raises(tc.TileError, match="linear is made ready for such arguments while the "
                           "current stream is captured"):  # fmt: skip
            call()
        assert not {"cuMemAlloc", "cuModuleLoadData", "cuCtxSynchronize"} & set(fake.calls)
        fake.captured = set()
        wanted = call()
        fake.captured = {7}
        fake.calls.clear()
        close(call(), wanted, 0)
    assert set(fake.calls) == {"stream", "cuCtxGetCurrent", "cuLaunchKernel"}
    assert fake.launched[-1].stream == 7


# -- on a GPU --


@pytest.mark.gpu
@pytest.mark.parametrize("format", [*FORMATS, "nvfp4", "nm<2, 4, f16>"])
def test_on_a_gpu(format: str) -> None:
    q = weight(format, 64, 256)
    on, w = q.cuda(), q.dequantize().cuda()
    assert on.device == GPU
    for rows in (1, 5, 70):
        at, back = x(rows, 256).cuda(), x(rows, 64).cuda()
        close(functional.linear(at, on), at.float() @ w.T)
        close(back @ on, back.float() @ w)
        at.requires_grad_()
        functional.linear(at, on).float().square().sum().backward()
        close(at.grad, 2 * (at.detach().float() @ w.T) @ w, 1e-2)
    assert torch.equal(on.dequantize(), w)
    assert torch.equal(on.cpu().stored, q.stored)
    ids = torch.tensor([0, 63, 5], device="cuda")
    if not format.startswith("nm"):
        assert torch.equal(functional.embedding(ids, on), w[ids])


@pytest.mark.gpu
def test_models_on_a_gpu() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64)).half().cuda()
    report = quantize_(model, "int4<group=64>", progress=False)
    assert not any(row.reason for row in report.rows)
    assert model[0].weight.device == GPU
    at = x(9, 256).cuda()
    with torch.no_grad():
        wanted = model(at)
        compiled = torch.compile(model, fullgraph=True)
        close(compiled(at), wanted)
        close(model.cpu().float()(at.cpu().float()), wanted.cpu(), 1e-2)
        state = model.state_dict()
        other = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64)).half().cuda()
        load_(other, state)
        close(other(at), wanted)


@tc.program
def gated(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], gain: tc.Tensor["N"]):
    return tc.silu(x @ w.T) * gain


@pytest.mark.gpu
def test_a_program_on_a_gpu() -> None:
    op, q = register(gated, "gated_on_a_gpu"), weight("int4<group=64>", 64, 256)
    at, gain = torch.randn(9, 256, device="cuda"), torch.randn(64, device="cuda")
    wanted = functional.silu(at @ q.dequantize().cuda().T) * gain
    for f in (op, torch.compile(lambda *args: op(*args), fullgraph=True)):
        close(f(at, q.cuda(), gain), wanted)


@pytest.mark.gpu
def test_a_graph_of_a_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 64)).half().cuda()
    quantize_(model, "int4<group=64>", progress=False)
    at, graph = x(4, 256).cuda(), torch.cuda.CUDAGraph()
    with torch.no_grad():
        early = torch.cuda.graph(torch.cuda.CUDAGraph(), stream=torch.cuda.Stream())
        with pytest.raises(tc.TileError, match="stream is captured"), early:
            model(at)
        for _ in range(2):
            model(at)
        with torch.cuda.graph(graph):
            y = model(at)
        for seed in (1, 2):
            at.copy_(x(4 * seed, 256)[:4])
            graph.replay()
            torch.cuda.synchronize()
            assert torch.equal(y, model(at))
