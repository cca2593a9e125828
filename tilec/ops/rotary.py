"""Places of tokens as angles (Su et al. 2021)."""

# The names in a program have types of the language.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc


@tc.program
def rotary(
    x: tc.Tensor["B", "T", "2*H"], cos: tc.Tensor["T", "H"], sin: tc.Tensor["T", "H"]
):  # fmt: skip
    """The first half of each row turned with the second, by the angles of its place."""
    return tc.rotary(x, cos, sin)
