"""Quantised models under torch.compile and torch.export: whole graphs, and one for every shape."""

# What a module has under a name may be a tensor or a module.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import tilec.torch
from tilec.torch import QuantizedTensor


class Block(nn.Module):
    """Rows of a table, two layers and a product that is written out."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 64)
        self.up, self.down = nn.Linear(64, 128), nn.Linear(128, 64, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.table(ids)
        h = h + self.down(torch.relu(self.up(h)))
        return h @ self.table.weight.T


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    model = Block()
    tilec.torch.quantize_(
        model, {"table": "int8", "*": "int4<group=32>"}, kinds=(nn.Linear, nn.Embedding),
        progress=False,
    )  # fmt: skip
    torch._dynamo.reset()
    return model


def ids(*shape: int) -> Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_one_graph_for_twenty_shapes(block: Block) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(block, fullgraph=True, backend=counter)
    for n in range(3, 23):
        given = ids(2, n)
        torch._dynamo.mark_dynamic(given, 1)
        with torch.no_grad():
            torch.testing.assert_close(compiled(given), block(given))
    assert counter.frame_count == 1


def test_gradients_in_a_graph(block: Block) -> None:
    layer = block.up
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    found = []
    for f in (layer, compiled):
        layer.bias.grad = None
        at = torch.randn(3, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        f(at).square().sum().backward()
        found.append((at.grad, layer.bias.grad))
    torch.testing.assert_close(found[0], found[1])


def test_export(block: Block, tmp_path: object) -> None:
    size = torch.export.Dim("n", min=2, max=30)
    program = torch.export.export(block, (ids(2, 7),), dynamic_shapes={"ids": {1: size}})
    with torch.no_grad():
        for n in (5, 12):
            torch.testing.assert_close(program.module()(ids(2, n)), block(ids(2, n)))
    names = {str(node.target) for node in program.run_decompositions({}).graph.nodes}
    assert {"tilec.linear.default", "tilec.embedding.default"} <= names


@pytest.mark.slow
def test_inductor(block: Block) -> None:
    compiled = torch.compile(block, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for n in (5, 12):
            torch.testing.assert_close(compiled(ids(2, n)), block(ids(2, n)), rtol=1e-4, atol=1e-5)
    assert isinstance(block.up.weight, QuantizedTensor)
