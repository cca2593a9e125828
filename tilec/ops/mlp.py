"""Layers of two products with an activation between them."""

# The names in a program have types of the language.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc


@tc.program
def swiglu(
    x: tc.Tensor["M", "K"], gate: tc.Tensor["F", "K"], up: tc.Tensor["F", "K"],
    down: tc.Tensor["N", "F"],
):  # fmt: skip
    """(silu(x @ gate.T) * (x @ up.T)) @ down.T (Shazeer, arXiv 2002.05202)"""
    h = tc.swiglu(x @ gate.T, x @ up.T).to(x.dtype)
    return (h @ down.T).to(x.dtype)


@tc.program
def activation(gate: tc.Tensor["M", "F"], up: tc.Tensor["M", "F"]):
    """silu(gate) * up, of products that are there already."""
    return tc.swiglu(gate, up)


@tc.program
def gelu(
    x: tc.Tensor["M", "K"], up: tc.Tensor["F", "K"], bias: tc.Tensor["F"],
    down: tc.Tensor["N", "F"], shift: tc.Tensor["N"],
):  # fmt: skip
    """gelu(x @ up.T + bias) @ down.T + shift"""
    h = tc.gelu(x @ up.T + bias).to(x.dtype)
    return (h @ down.T + shift).to(x.dtype)
