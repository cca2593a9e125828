"""The pass `gradient`: reverse-mode differentiation, a file of rules for each family of ops."""

from tilec.passes.gradient.function import gradient
from tilec.passes.gradient.reverse import handles
from tilec.passes.gradient.saved import saved

__all__ = ["gradient", "handles", "saved"]
