"""Every pass: importing this fills the registry, as `passes.pipeline.passes` does when asked."""

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

__all__ = [
    "canonicalize",
    "compose",
    "decode_elements",
    "layout",
    "lower_formats",
    "pad",
    "specialise",
    "stage_loads",
    "tile",
]
