"""The pass `gradient`: reverse-mode differentiation, a file of rules for each family of ops."""

from tilec.passes.gradient.function import gradient
from tilec.passes.gradient.reverse import handles

__all__ = ["gradient", "handles"]
