"""A layer of an encoder as one program: every token attends to all; norms stand behind."""

# The names in a program have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import tilec as tc


@tc.program
def layer(
    x: tc.Tensor["B*T", "C"], hidden: tc.Tensor["B", "H", "T"], wq: tc.Tensor["H*D", "C"],
    bq: tc.Tensor["H*D"], wk: tc.Tensor["H*D", "C"], bk: tc.Tensor["H*D"],
    wv: tc.Tensor["H*D", "C"], bv: tc.Tensor["H*D"], wo: tc.Tensor["C", "H*D"], bo: tc.Tensor["C"],
    wide: tc.Tensor["F", "C"], bw: tc.Tensor["F"], narrow: tc.Tensor["C", "F"], bn: tc.Tensor["C"],
    gain1: tc.Tensor["C"], bias1: tc.Tensor["C"], gain2: tc.Tensor["C"], bias2: tc.Tensor["C"],
    scale: tc.f32, eps: tc.f32,
):  # fmt: skip
    """What a layer makes of tokens; `hidden` is -inf, or nearly, for keys that are padding."""
    split = ("B", "T", "H", "D")
    q = tc.transpose(tc.reshape((x @ wq.T + bq).to(x.dtype), split), (0, 2, 1, 3))
    k = tc.transpose(tc.reshape((x @ wk.T + bk).to(x.dtype), split), (0, 2, 1, 3))
    v = tc.transpose(tc.reshape((x @ wv.T + bv).to(x.dtype), split), (0, 2, 1, 3))
    p = tc.softmax(q @ k.T * scale + hidden[:, :, None, :]).to(x.dtype)
    mixed = tc.transpose((p @ v).to(x.dtype), (0, 2, 1, 3))
    flat = tc.reshape(mixed, (tc.extent("B") * tc.extent("T"), tc.extent("H") * tc.extent("D")))
    y = tc.layer_norm((flat @ wo.T + bo + x).to(x.dtype), gain1, bias1, eps)
    f = tc.gelu(y @ wide.T + bw).to(x.dtype)
    return tc.layer_norm((f @ narrow.T + bn + y).to(x.dtype), gain2, bias2, eps)
