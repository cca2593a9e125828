"""Every op, by family. Importing this package fills `Op.registry`."""

from tilec.ir.ops import arith, control, memory, reduce, shape

__all__ = ["arith", "control", "memory", "reduce", "shape"]
