"""A Llama of random weights: quantised by one call, compiled as one graph, saved and loaded."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import tilec.torch

RECIPE = {
    "*.mlp.*": "int4<group=64>",
    "*.self_attn.*": "int8",
    "lm_head": None,  # as it is
}
CONFIG = LlamaConfig(
    hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, vocab_size=512, tie_word_embeddings=False, use_cache=False,
)  # fmt: skip


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(CONFIG).eval()


def logits(of: Callable[..., object], ids: Tensor) -> Tensor:
    with torch.no_grad():
        return of(ids).logits  # type: ignore[attr-defined]


def distance(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def compiled(quantised: nn.Module) -> None:
    """One graph, compiled once, for every length of a sentence."""
    graph = torch.compile(quantised, fullgraph=True, backend="aot_eager")
    start = time.perf_counter()
    for n in range(5, 25):
        ids = torch.randint(0, 512, (2, n))
        torch._dynamo.mark_dynamic(ids, 1)
        assert distance(logits(graph, ids), logits(quantised, ids)) < 1e-5
    print(f"20 lengths in {time.perf_counter() - start:.1f} s, compiled and not")


def main() -> None:
    """Print what became of each layer."""
    dense, quantised = model(), model()
    report = tilec.torch.quantize_(quantised, RECIPE)
    Console(width=120).print(report)
    ids = torch.randint(0, 512, (2, 17))
    print(f"logits: {100 * distance(logits(quantised, ids), logits(dense, ids)):.1f} % away")
    compiled(quantised)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(quantised.state_dict(), path)
        fresh = LlamaForCausalLM(CONFIG).eval()
        tilec.torch.load_(fresh, load_file(path))
    assert torch.equal(logits(fresh, ids), logits(quantised, ids))


if __name__ == "__main__":
    main()
