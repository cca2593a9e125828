"""Operators on any number of rows: few codes for all of them, and the results of each."""

import pytest
import torch

import tilec as tc
from tilec.classes import class_of
from tilec.torch import QuantizedTensor
from tilec.torch.execution import CPU

ROWS = (0, 1, 2, 3, 5, 6, 9, 11, 12, 16, 17, 20, 33, 50, 64, 65, 70, 100, 129, 200)


@pytest.mark.parametrize("bias", [False, True])
def test_twenty_shapes_and_a_code_for_each_class(bias: bool) -> None:
    torch.manual_seed(bias)
    packed = tc.quantize(torch.randn(48, 96).numpy(), "int4<group=32>")
    w, dense = QuantizedTensor.of(packed), torch.from_numpy(packed.dequantize())
    shift = torch.randn(48) if bias else None
    kernel = CPU.open.affine if bias else CPU.open.linear
    before = len(kernel.compiles())
    for rows in ROWS:
        x = torch.randn(rows, 96)
        y = torch.nn.functional.linear(x, w, shift)
        want = torch.nn.functional.linear(x, dense, shift)
        assert torch.allclose(y, want, atol=1e-4), rows
    made = len(kernel.compiles()) - before
    assert made == len({class_of(rows) for rows in ROWS if rows})


def test_rows_of_a_table() -> None:
    packed = tc.quantize(torch.randn(20, 64).numpy(), "int8")
    w, dense = QuantizedTensor.of(packed), torch.from_numpy(packed.dequantize())
    before = len(CPU.open.embedding.compiles())
    for count in (2, 6, 3, 40, 64, 20):
        ids = torch.arange(count) * 7 % 20
        assert torch.equal(torch.nn.functional.embedding(ids, w), dense[ids])
    assert len(CPU.open.embedding.compiles()) - before == 2
