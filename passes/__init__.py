"""Func -> Func. Importing this package fills the registry of passes."""

from tilec.passes import (
    canonicalize,
    compose,
    decode_elements,
    layout,
    lower_formats,
    pad,
    specialise,
    stage_loads,
    tile,
)
from tilec.passes.pipeline import PASSES, Step, parse_pipeline, register, run

__all__ = [
    "PASSES",
    "Step",
    "canonicalize",
    "compose",
    "decode_elements",
    "layout",
    "lower_formats",
    "pad",
    "parse_pipeline",
    "register",
    "run",
    "specialise",
    "stage_loads",
    "tile",
]
