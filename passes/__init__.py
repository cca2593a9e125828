"""Func -> Func. Importing this package fills the registry of passes.

Those for machines with threads are in `tilec.passes.threads`, which registers them in its turn.
"""

from tilec.passes import (
    canonicalize,
    compose,
    decode_elements,
    lower_formats,
    specialise,
    tile,
)
from tilec.passes.pipeline import PASSES, Step, parse_pipeline, register, run

__all__ = [
    "PASSES",
    "Step",
    "canonicalize",
    "compose",
    "decode_elements",
    "lower_formats",
    "parse_pipeline",
    "register",
    "run",
    "specialise",
    "tile",
]
