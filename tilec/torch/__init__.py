"""tilec for torch: quantised weights as tensors, models quantised by one call, and operators.

import tilec.torch

report = tilec.torch.quantize_(model, {"*.mlp.*": "int4<group=64>", "*": "int8"})
model = torch.compile(model, fullgraph=True)
"""

from tilec.torch.quantise import quantize_
from tilec.torch.recipe import Rounding
from tilec.torch.register import register
from tilec.torch.report import Report, Row
from tilec.torch.state import load_
from tilec.torch.tensor import QuantizedTensor

__all__ = ["QuantizedTensor", "Report", "Rounding", "Row", "load_", "quantize_", "register"]
