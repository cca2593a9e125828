"""Every op, by family. Importing this package fills `Op.registry`."""

from tilec.ir.ops import arith, cast, control, memory, reduce, shape

__all__ = ["arith", "cast", "control", "memory", "reduce", "shape"]
