"""Parameters of a function after passes: which are the user's, and which passes made."""

from __future__ import annotations

from collections.abc import Mapping

from tilec.ir.core import Value
from tilec.ir.types import Memory, Type


def passed(p: Value, given: Mapping[str, Type]) -> bool:
    """Whether a parameter is the user's or a component of one, by the types of the user's.

    Otherwise it is memory that a pass made for the kernel.
    """
    name, _, component = p.hint.partition(".")
    whole = given[name]
    return not component or not isinstance(whole, Memory) or any(
        c.name == component for c in whole.format.components(whole.shape)
    )  # fmt: skip
