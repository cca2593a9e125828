"""Models of transformers, quantised by one call: whole graphs, equal to eager, for all shapes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from tilec.torch import QuantizedTensor, Rounding, quantize_

EXAMPLES = str(Path(__file__).parents[2] / "examples")


def llama(**options: Any) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=512, use_cache=False, **options,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def logits(model: Callable[..., Any], ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def away(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def ids(*shape: int) -> Tensor:
    return torch.randint(0, 512, shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_llama(dtype: torch.dtype, backend: str) -> None:
    torch._dynamo.reset()
    model, dense = llama().to(dtype), llama().to(dtype)
    report = quantize_(
        model, {"*.mlp.*": "int4<group=64>", "lm_head": None, "*": "int8"}, progress=False
    )
    assert len(report.rows) == 14
    assert all(row.after < row.before for row in report.rows)
    assert away(logits(model, ids(2, 9)), logits(dense, ids(2, 9))) < 0.12
    counter = CompileCounterWithBackend(backend)
    graph = torch.compile(model, fullgraph=True, backend=counter)
    for n in range(5, 25):
        given = ids(2, n)
        torch._dynamo.mark_dynamic(given, 1)
        bound = 2e-2 if dtype == torch.bfloat16 else 1e-5
        assert away(logits(graph, given), logits(model, given)) < bound
    assert counter.frame_count == 1


@pytest.mark.slow
def test_a_llama_whose_table_is_its_last_layer() -> None:
    model = llama(tie_word_embeddings=True)
    report = quantize_(model, "int8", progress=False)
    assert report.rows[-1].names == ("model.embed_tokens", "lm_head")
    table, head = (model.get_submodule(n).weight for n in report.rows[-1].names)
    assert table is head
    assert isinstance(head, QuantizedTensor)
    dense = llama(tie_word_embeddings=True)
    assert away(logits(model, ids(2, 9)), logits(dense, ids(2, 9))) < 0.05
    graph = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    assert away(logits(graph, ids(2, 9)), logits(model, ids(2, 9))) < 1e-5


@pytest.mark.slow
def test_training_what_is_not_quantised() -> None:
    """Gradients flow through quantised layers to a norm, as they do through dense ones."""
    found: list[Tensor] = []
    for quantised in (False, True):
        model = llama()
        if quantised:
            quantize_(model, {"model.*": "int8"}, progress=False)
        given = ids(2, 9)
        model(given, labels=given).loss.backward()
        gain = dict(model.named_parameters())["model.layers.0.input_layernorm.weight"]
        assert gain.grad is not None
        found.append(gain.grad)
    assert away(found[1], found[0]) < 0.1


@pytest.mark.slow
def test_minilm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence encoder of the demo as transformers' BertModel, its weights as published."""
    from transformers import BertConfig, BertModel

    monkeypatch.setattr(sys, "path", [EXAMPLES, *sys.path])
    minilm_model = importlib.import_module("minilm_model")
    sentences = importlib.import_module("minilm_sentences").SENTENCES[:24]
    folder = minilm_model.find_model()
    model = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False).eval()
    missing = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert not missing.missing_keys
    checkpoint = minilm_model.load()
    batch = minilm_model.tokenize(checkpoint, sentences)
    reference = minilm_model.Encoder(checkpoint, minilm_model.NumpyArithmetic())(batch)
    given = {"input_ids": torch.from_numpy(batch.ids).long(),
             "attention_mask": torch.from_numpy(batch.mask).long()}  # fmt: skip

    def cosines(of: Callable[..., Any]) -> Tensor:
        with torch.no_grad():
            states = of(**given).last_hidden_state
        mask = given["attention_mask"][..., None]
        means = (states * mask).sum(1) / mask.sum(1)
        return (nn.functional.normalize(means) * torch.from_numpy(reference)).sum(1)

    assert cosines(model).min() > 0.9999
    rounding = Rounding("int4<group=32>", "gptq")
    report = quantize_(model, {"encoder.*": rounding}, inputs=[given], progress=False)
    assert len(report.rows) == 36
    assert report.rows[0].output_error is not None
    eager = cosines(model)
    assert eager.mean() > 0.98
    torch._dynamo.reset()
    torch.testing.assert_close(
        cosines(torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)), eager
    )
