"""quantize_: recipes, reports, ties, calibration, and state dicts of what it made."""

# What a module has under a name may be a tensor or a module.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

import tilec as tc
from tilec.torch import QuantizedTensor, Rounding, load_, quantize_


class Model(nn.Module):
    """A table that the last layer shares, two layers between, and one of an odd width."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(40, 64)
        self.mlp = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64, bias=False))
        self.odd = nn.Linear(64, 64)
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 40, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embed(ids)
        return self.head(self.norm(h + self.mlp(h) + self.odd(h)))


IDS = torch.arange(30).reshape(2, 15)


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS)


def dequantised(model: Model) -> Model:
    """The same model with dense weights."""
    dense = Model()
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor):
            values = weight.dequantize() if isinstance(weight, QuantizedTensor) else weight
            dense.get_submodule(name).weight = nn.Parameter(values)
            if getattr(module, "bias", None) is not None:
                dense.get_submodule(name).bias = module.bias
    return dense


def test_a_recipe_by_names() -> None:
    model = Model()
    before = model.mlp[0].weight.detach().clone()
    recipe = {
        "mlp.0": "int4<group=32>",
        re.compile(r"mlp\.\d+"): Rounding("uint4<group=32, zero=float>", "hqq"),
        "head": None,
        "*": "int8",
    }
    report = quantize_(model, recipe, progress=False)
    assert [(r.names, r.format, r.method) for r in report.rows] == [
        (("mlp.0",), "int4<group=32, scale=f16>", "nearest"),
        (("mlp.2",), "uint4<group=32, scale=f16, zero=float>", "hqq"),
        (("odd",), "int8<channel, scale=f16>", "nearest"),
    ]
    assert type(model.head.weight) is nn.Parameter
    row, weight = report.rows[0], model.mlp[0].weight
    assert isinstance(weight, QuantizedTensor)
    assert (row.shape, row.before) == ((96, 64), 96 * 64 * 4)
    error = (weight.dequantize() - before).norm() / before.norm()
    assert row.weight_error == pytest.approx(error.item(), rel=1e-5)
    assert row.output_error is None
    assert report.after < report.before
    assert report.before == sum(p.nbytes for p in Model().parameters())
    torch.testing.assert_close(logits(model), logits(dequantised(model)), rtol=1e-4, atol=1e-4)
    assert json.loads(json.dumps(report.data()))["after"] == report.after
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(report)
    assert "int4<group=32" in console.export_text()


def test_a_format_for_every_layer() -> None:
    report = quantize_(Model(), tc.int4(group=32), progress=False)
    assert [r.names[0] for r in report.rows] == ["mlp.0", "mlp.2", "odd", "head"]


def test_globs_match_whole_names() -> None:
    report = quantize_(Model(), {"*.[2-9]": "int4<group=32>", "od?": "int8"}, progress=False)
    assert [r.names for r in report.rows] == [("mlp.2",), ("odd",)]
    with pytest.raises(tc.TileError, match="no layer matches 'mlp', 'dd'"):
        quantize_(Model(), {"mlp": "int8", "dd": "int8"})


def test_patterns_that_match_nothing() -> None:
    model = Model()
    recipe = {"mlp.*": "int8", "lm_head": "int4", re.compile("x+"): None}
    with pytest.raises(tc.TileError, match=r"no layer matches 'lm_head', 'x\+'") as e:
        quantize_(model, recipe)
    assert "the layers (Linear) are mlp.0, mlp.2, odd, head" in str(e.value)
    with pytest.raises(tc.TileError, match="no layer matches 'embed'"):
        quantize_(model, {"embed": "int8"})
    with pytest.raises(tc.TileError, match="no quantiser is called 'best'"):
        Rounding("int8", "best")
    with pytest.raises(tc.TileError, match="awq and gptq need inputs"):
        quantize_(model, Rounding("int8", "awq"))
    assert type(model.mlp[0].weight) is nn.Parameter
    quantize_(model, "int8", progress=False)
    with pytest.raises(
        tc.TileError, match=r"mlp\.0 is quantised to int8<channel, scale=f16> already"
    ):
        quantize_(model, "int8")


def test_what_can_not_be_quantised_is_left() -> None:
    model = Model()
    with torch.no_grad():
        model.odd.weight[3, 3] = torch.inf
    model.mlp[2].to("meta")
    report = quantize_(model, {"mlp.2": "int8", "odd": "int8", "embed": "codebook<4, rows=1>"},
                       kinds=(nn.Linear, nn.Embedding), progress=False)  # fmt: skip
    assert [r.after == r.before for r in report.rows] == [True] * 3
    assert [r.format for r in report.rows] == [""] * 3
    reasons = {r.names[0]: r.reason for r in report.rows}
    assert "not by index" in reasons["embed"]
    assert "finite" in reasons["odd"]
    assert "on meta; expected floats on the CPU or a GPU" in reasons["mlp.2"]
    assert type(model.odd.weight) is type(model.embed.weight) is nn.Parameter


def test_tied_weights_stay_tied() -> None:
    model = Model(tied=True)
    report = quantize_(model, {"head": "int8"}, progress=False)
    assert report.rows[0].names == ("embed", "head")
    assert model.head.weight is model.embed.weight
    assert isinstance(model.head.weight, QuantizedTensor)
    torch.testing.assert_close(logits(model), logits(dequantised(model)), rtol=1e-4, atol=1e-4)
    with pytest.raises(tc.TileError, match="embed and head have one weight, but the recipe says "
                       "int8<channel, scale=f16> by nearest and to leave it"):  # fmt: skip
        quantize_(Model(tied=True), {"embed": "int8", "mlp.*": "int8"},
                  kinds=(nn.Linear, nn.Embedding))  # fmt: skip


@pytest.mark.parametrize(
    ("method", "format", "options"),
    [
        ("gptq", "int3<group=32>", {}),
        ("awq", "int3<group=32>", {"steps": 4}),
        ("svd_split", "int3<group=32>", {"rank": 4}),
        ("kmeans", "codebook<3, rows=1>", {}),
        ("nearest", "int3<group=32>", {}),
    ],
)
def test_calibration(method: str, format: str, options: dict[str, int]) -> None:
    model, dense = Model(), Model()
    rng = torch.Generator().manual_seed(1)
    batches = [torch.randint(0, 40, (4, 16), generator=rng) for _ in range(3)]
    recipe = {"mlp.0": Rounding(format, method, options)}
    report = quantize_(model, recipe, inputs=batches, samples=90, progress=False)
    (row,) = report.rows
    assert row.method == method
    x = torch.cat([dense.embed(b).reshape(-1, 64) for b in batches]).detach()
    x = torch.cat([b[torch.linspace(0, 63, 30).round().long()] for b in x.split(64)])
    weight = model.mlp[0].weight
    wanted = functional.linear(x, dense.mlp[0].weight)
    error = ((x @ weight.dequantize().T - wanted).norm() / wanted.norm()).item()
    assert row.output_error == pytest.approx(error, rel=1e-3)
    assert (weight.divisor is not None) == (method == "awq")
    torch.testing.assert_close(logits(model), logits(dequantised(model)), rtol=1e-3, atol=1e-3)


def test_calibration_helps() -> None:
    batches = [{"ids": torch.arange(40)}]
    errors = {}
    for method in ("nearest", "gptq"):
        report = quantize_(Model(), {"mlp.0": Rounding("int3<group=32>", method)}, inputs=batches,
                           progress=False)  # fmt: skip
        errors[method] = report.rows[0].output_error
    assert errors["gptq"] < 0.9 * errors["nearest"]


def test_state_dicts(tmp_path: Path) -> None:
    model = Model()
    recipe = {"mlp.0": "int4<group=32>", "odd": Rounding("int8", "awq", {"steps": 2})}
    quantize_(model, recipe, inputs=[IDS], progress=False)
    state = model.state_dict()
    assert {type(v) for v in state.values()} == {Tensor}
    assert "mlp.0.weight" not in state
    assert {k for k in state if k.startswith("odd.")} == {
        "odd.weight.stored", "odd.weight.form", "odd.weight.divisor", "odd.bias",
    }  # fmt: skip
    save_file(state, tmp_path / "model.safetensors")
    read = load_file(tmp_path / "model.safetensors")
    fresh = Model()
    with torch.no_grad():
        for p in fresh.parameters():
            p.zero_()
    load_(fresh, read)
    assert torch.equal(logits(fresh), logits(model))
    with torch.no_grad():
        fresh.mlp[0].weight.stored.zero_()
    fresh.load_state_dict(read)  # into what is quantised alike
    assert torch.equal(logits(fresh), logits(model))
    fresh.load_state_dict(read, assign=True)
    assert torch.equal(logits(fresh), logits(model))


def test_state_dicts_that_do_not_fit() -> None:
    model = Model()
    quantize_(model, {"mlp.0": "int4<group=32>"}, progress=False)
    said = (
        r"mlp\.0\.weight is quantised to int4<.*>, and the state dict has float32\[96, 64\]: load"
    )
    with pytest.raises(RuntimeError, match=said):
        model.load_state_dict(Model().state_dict())
    state = model.state_dict()
    other = Model()
    quantize_(other, {"mlp.0": "int8"}, progress=False)
    with pytest.raises(RuntimeError, match="the state dict has int4<group=32, scale=f16>"):
        other.load_state_dict(state)
    load_(other, state)
    assert torch.equal(logits(other), logits(model))
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"mlp\.0\.weight\.form"'):
        Model().load_state_dict(state)
    del state["mlp.0.weight.stored"]
    with pytest.raises(RuntimeError, match=r"the state dict has no mlp\.0\.weight\.stored"):
        model.load_state_dict(state)
    del state["mlp.0.weight.form"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"mlp\.0\.weight"'):
        model.load_state_dict(state)
    wide = Model()
    wide.mlp[0] = nn.Linear(32, 96)
    with pytest.raises(
        tc.TileError, match=r"mlp.0.weight is \[96, 32\], and the state dict has int4"
    ):
        load_(wide, model.state_dict())


def test_damaged_state_dicts() -> None:
    """No bytes of a file make code read beyond the memory that holds them."""
    model = Model()
    quantize_(model, {"mlp.0": "int4<group=32>", "odd": "csr<f16, 4096>"}, progress=False)
    for name, damage, said in (
        ("mlp.0.weight.stored", lambda t: t[:-64], "a quantised weight has 4608 bytes, expected"),
        ("mlp.0.weight.stored", lambda t: t.repeat(2), "a quantised weight has 9344 bytes"),
        ("odd.weight.stored", lambda t: t.fill_(255), "odd.weight: "),
    ):
        state = {key: value.clone() for key, value in model.state_dict().items()}
        state[name] = damage(state[name])
        with pytest.raises(RuntimeError, match=said):
            model.load_state_dict(state)
    state = dict(model.state_dict())
    text = bytes(state["mlp.0.weight.form"].numpy()).decode()
    short = text.replace(text.split()[-1], "64")
    state["mlp.0.weight.form"] = torch.tensor(list(short.encode()), dtype=torch.uint8)
    state["mlp.0.weight.stored"] = torch.zeros(128, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="a tensor of this format has other arrays"):
        load_(Model(), state)


def test_tied_state_dicts() -> None:
    model, fresh = Model(tied=True), Model(tied=True)
    quantize_(model, {"head": "int8"}, progress=False)
    load_(fresh, model.state_dict())
    assert fresh.head.weight is fresh.embed.weight
    assert torch.equal(logits(fresh), logits(model))


def test_numpy_sees_the_same_weight() -> None:
    model = Model()
    quantize_(model, {"odd": "nvfp4"}, progress=False)
    packed = model.odd.weight.packed()
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    y = model.odd(torch.from_numpy(x)).detach().numpy() - model.odd.bias.detach().numpy()
    np.testing.assert_allclose(y, x @ packed.dequantize().T, atol=1e-5)
