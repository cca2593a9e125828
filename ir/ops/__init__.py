"""Every op, by family. Importing this package fills `Op.registry`."""

from tilec.ir.ops import (
    arith,
    cast,
    control,
    machine,
    memory,
    packed,
    reduce,
    scaled,
    scan,
    shape,
    sparse,
    top,
)

__all__ = ["arith", "cast", "control", "machine", "memory", "packed", "reduce", "scaled", "scan",
           "shape", "sparse", "top"]  # fmt: skip
