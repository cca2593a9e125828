"""Losses of classifiers."""

# The names in a program have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc


@tc.program
def cross_entropy(logits: tc.Tensor["T", "V"], target: tc.Tensor["T", tc.i32]):
    """-log(softmax(logits)[t, target[t]]) of each row t, in f32."""
    return tc.cross_entropy(logits, target)


@tc.program
def linear_cross_entropy(
    x: tc.Tensor["T", "K"], w: tc.Tensor["V", "K"], target: tc.Tensor["T", tc.i32]
):  # fmt: skip
    """As `cross_entropy` of x @ w.T, of which compiled code keeps a tile at a time."""
    return tc.cross_entropy(x @ w.T, target)
