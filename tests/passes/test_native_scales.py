"""Products of codes with their scales: the sums of the decoded, and why others are not."""

from __future__ import annotations

import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.ir.core import Func
from tilec.ir.dtype import Array
from tilec.ir.fit import Fit, encode
from tilec.ir.interpret import interpret
from tilec.ir.named import named
from tilec.ir.ops.scaled import ScaledDot
from tilec.lang.text import parse
from tilec.passes import parse_pipeline, run
from tilec.passes.native_scales import native_scales

SHAPE = {"M": 5, "N": 12}


def linear(x: str, w: str) -> Func:
    return kernels.linear.definition.ir({"x": named(x), "w": named(w), "y": tc.f32})


def parts(func: Func, k: int, spread: int) -> tuple[dict[str, Array], Array]:
    """Arguments of components, and the product: sums are exact where scales `spread` little."""
    rng = np.random.default_rng(k)
    arguments: dict[str, Array] = {"y": np.zeros((5, 12))}
    both: list[Array] = []
    for p in func.params[:2]:
        shape = (SHAPE["M" if p.hint == "x" else "N"], k)
        values = rng.integers(-4, 5, shape) * np.exp2(rng.integers(0, spread + 1, shape))
        found = encode(p.type.format, values, Fit())  # type: ignore[union-attr]
        arguments |= {f"{p.hint}.{name}": a for name, a in found.items()}
        both.append(p.type.format.values(found, shape))  # type: ignore[union-attr]
    return arguments, both[0] @ both[1].T


@pytest.mark.parametrize("k", [256, 200])
@pytest.mark.parametrize("swap", ["", ",swap-operands{when=always},canonicalize"])
@pytest.mark.parametrize(("x", "w"), [
    ("mxfp8", "mxfp8"), ("mxfp8_e5m2", "mxfp8"), ("mxfp4", "mxfp8"), ("mxfp4", "mxfp4"),
    ("nvfp4", "nvfp4"), ("e2m1<group=16, scale=e4m3>", "nvfp4"),
    ("e2m1<group=16, scale=e4m3<channel, scale=f32>>", "nvfp4"),
])  # fmt: skip
def test_is_the_sum_of_the_decoded(x, w, swap, k):
    before = linear(x, w)
    after = run(parse_pipeline(f"native-scales,tile,canonicalize{swap}"), before)
    (product,) = (op for op in after.walk() if isinstance(op, ScaledDot))
    arguments, want = parts(before, k, 0 if "nvfp4" in w else 2)
    interpret(after, arguments, SHAPE | {"K": k})
    size = np.abs(want).max()
    assert size > 10
    assert np.abs(arguments["y"] - want).max() <= (3e-7 if product.group == 16 else 0) * size


@pytest.mark.parametrize(("x", "w", "target", "reason"), [
    ("mxfp8", "bf16", "sm_100", "codes with scales of groups in the other operand too"),
    ("mxfp8", "int8<group=32, scale=f32>", "sm_100", "codes with scales of groups in the other"),
    ("mxfp4", "nvfp4", "sm_100", "scales of one kind"),
    ("mxfp4", "mxfp8", "sm_120", "codes of as many bits in both, on sm_120"),
    ("mxfp8", "mxfp8", "sm_90", "a matrix unit that multiplies by scales, as of sm_100; sm_90"),
    ("mxfp8", "mxfp8", "cpu", "a matrix unit that multiplies by scales, as of sm_100; cpu has"),
])  # fmt: skip
def test_says_why_operands_are_decoded(x, w, target, reason):
    func = linear(x, w)
    after = native_scales(func, target=target)
    assert after.params == func.params
    (remark,) = after.remarks
    assert remark.missing.startswith(reason)
    assert remark.loc is not None
    assert "tc.dot(x[m, k], w[n, k].T)" in remark.loc.text
    assert "decoded" in remark.message
    assert f"`x` ({named(x)})" in remark.message


def test_other_targets_of_a_family():
    for target in ("sm_100a", "sm_103", "sm_120a", "sm_121"):
        (remark,) = native_scales(linear("mxfp8", "mxfp8"), target=target).remarks
        assert remark.message.endswith("are multiplied with their scales as they lie")
        assert not remark.missing


@pytest.mark.parametrize("format", ["int8<group=32>", "e4m3<group=64, scale=e8m0>", "bf16",
                                    "e4m3<rows=32, group=32, scale=e8m0>", "mxfp6"])  # fmt: skip
def test_has_nothing_to_say_of_other_formats(format):
    assert native_scales(linear(format, "bf16")).remarks == ()


LOOPS = {
    "acc += dot(x[m, k], w[k, n])": "k along the rows of both",
    "for k in tiles(K, block=48) { acc += dot(x[m, k], w[n, k].T) }": "a step of k that 32 divides",
    "for k in tiles(K, to=count) { acc += dot(x[m, k], w[n, k].T) }": "a loop over all of K",
    "acc += dot(x[m, :], w[n, :].T)": "a loop over k",
    "for k in tiles(K) { a = x[m, k]  acc += dot(a, w[n, k].T) + sum(a, axis=1)[:, none] }":
        "`x` to be read by such products only",
}  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS)
def test_loops_that_do_not_fit(loop):
    body = loop.replace("  acc +=", "\n acc +=")
    if "w[k, n]" in loop:
        body = f"for k in tiles(K) {{ {loop} }}"
    shape = "[K, N]" if "w[k, n]" in loop else "[N, K]"
    text = f"""kernel f(x: mxfp8[M, K], w: mxfp8{shape}, count: i32, y: f32[M, N]) {{
      for m, n in tiles(M, N) {{
        acc = zeros([m, n], f32)
        {body}
        y[m, n] = acc
      }}
    }}"""
    after = native_scales(parse(text)["f"].ir())
    assert not any(isinstance(op, ScaledDot) for op in after.walk())
    (remark,) = after.remarks
    assert remark.missing.startswith(LOOPS[loop]), remark
