"""The pass `lay-out`: which threads of a block hold what, a file for each family of ops."""

from tilec.passes.layout.choose import lay_out

__all__ = ["lay_out"]
