"""The passes for machines with threads; importing this registers them."""

from tilec.passes import layout, pad, stage_loads

__all__ = ["layout", "pad", "stage_loads"]
