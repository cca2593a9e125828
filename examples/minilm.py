"""A sentence encoder with quantised linear layers: size, fidelity and speed of every format.

Every kernel below is written as if its operands were dense; `linear` takes weights of any format.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from minilm_model import (
    EPSILON,
    Arithmetic,
    Array,
    Batch,
    Checkpoint,
    Encoder,
    Linear,
    NumpyArithmetic,
    load,
    tokenize,
)
from minilm_sentences import CALIBRATION, SENTENCES
from rich.console import Console
from rich.progress import track
from rich.table import Table

import tilec as tc


@tc.kernel
def linear(
    x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], b: tc.Tensor["N"], y: tc.Tensor["M", "N"]
):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k].to(tc.bf16), w[n, k].T)
        y[m, n] = acc + b[n]


@tc.kernel
def attention(
    q: tc.Tensor["R", "T", "D"], k: tc.Tensor["R", "T", "D"], v: tc.Tensor["R", "T", "D"],
    bias: tc.Tensor["R", "T"], y: tc.Tensor["R", "T", "D"],
):  # fmt: skip
    for r, t in tc.tiles("R", "T", block=(1, None)):
        head = r.start
        scores = tc.dot(q[head, t, :], k[head, :, :].T) + bias[head, :]
        powers = tc.exp(scores - tc.max(scores, axis=1, keepdims=True))
        y[head, t, :] = tc.dot(powers / tc.sum(powers, axis=1, keepdims=True), v[head, :, :])


@tc.kernel
def add_norm(
    x: tc.Tensor["M", "N"], residual: tc.Tensor["M", "N"], gain: tc.Tensor["N"],
    bias: tc.Tensor["N"], y: tc.Tensor["M", "N"],
):  # fmt: skip
    for m in tc.tiles("M"):
        total = x[m, :] + residual[m, :]
        size = tc.size("N").to(tc.f32)
        centred = total - tc.sum(total, axis=1, keepdims=True) / size
        variance = tc.sum(centred * centred, axis=1, keepdims=True) / size
        y[m, :] = centred * tc.rsqrt(variance + EPSILON) * gain[:] + bias[:]


@tc.kernel
def gelu(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = 0.5 * x[m, n] * (1.0 + tc.erf(x[m, n] * 0.7071067811865476))


class Recorder(NumpyArithmetic):
    """The float model, which keeps what each linear layer was last given."""

    def __init__(self) -> None:
        self.inputs: list[Array] = []

    def linear(self, weight: Array, bias: Array) -> Linear:
        place = len(self.inputs)
        self.inputs.append(np.empty((0, weight.shape[1]), np.float32))

        def run(x: Array) -> Array:
            self.inputs[place] = x
            return x @ weight.T + bias

        return run


def calibration(checkpoint: Checkpoint) -> list[Array]:
    """The inputs [tokens, K] of every linear layer, in order, over sentences of their own."""
    recorder = Recorder()
    batch = tokenize(checkpoint, CALIBRATION)
    Encoder(checkpoint, recorder)(batch)
    tokens = batch.mask.reshape(-1) == 1
    return [x[tokens] for x in recorder.inputs]


@dataclass
class TilecArithmetic:
    """The kernels above, with weights in one format; `inputs` help to round them."""

    format: str
    inputs: list[Array] | None
    packed: list[tc.PackedTensor] = field(default_factory=list[tc.PackedTensor])

    def linear(self, weight: Array, bias: Array) -> Linear:
        inputs = self.inputs and self.inputs[len(self.packed)]
        w = tc.quantize(weight, tc.format(self.format), inputs=inputs)
        self.packed.append(w)

        def run(x: Array) -> Array:
            y = np.empty((len(x), len(bias)), np.float32)
            linear(x, w, bias, y)
            return y

        return run

    def attention(self, q: Array, k: Array, v: Array, bias: Array) -> Array:
        y = np.empty_like(q)
        attention(q, k, v, bias, y)
        return y

    def add_norm(self, x: Array, residual: Array, gain: Array, bias: Array) -> Array:
        y = np.empty_like(x)
        add_norm(x, residual, gain, bias, y)
        return y

    def gelu(self, x: Array) -> Array:
        y = np.empty_like(x)
        gelu(x, y)
        return y

    @property
    def nbytes(self) -> int:
        return sum(w.nbytes for w in self.packed)


class TorchArithmetic:
    """torch in float32; a subclass changes how linear layers are stored."""

    def __init__(self) -> None:
        self.nbytes = 0

    def linear(self, weight: Array, bias: Array) -> Linear:
        w, b = torch.from_numpy(weight), torch.from_numpy(bias)
        self.nbytes += weight.nbytes
        return lambda x: torch.nn.functional.linear(torch.from_numpy(x), w, b).numpy()

    def attention(self, q: Array, k: Array, v: Array, bias: Array) -> Array:
        tensors = (torch.from_numpy(a) for a in (q, k, v))
        mask = torch.from_numpy(bias)[:, None, :]
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(*tensors, attn_mask=mask, scale=1.0).numpy()

    def add_norm(self, x: Array, residual: Array, gain: Array, bias: Array) -> Array:
        total = torch.from_numpy(x) + torch.from_numpy(residual)
        g, b = torch.from_numpy(gain), torch.from_numpy(bias)
        return torch.nn.functional.layer_norm(total, gain.shape, g, b, EPSILON).numpy()

    def gelu(self, x: Array) -> Array:
        return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


class TorchInt8(TorchArithmetic):
    """torch's weight-only int8 kernel: bf16 activations, a scale per channel."""

    def linear(self, weight: Array, bias: Array) -> Linear:
        w = torch.from_numpy(weight)
        scale = w.abs().amax(1) / 127
        codes, scale = (w / scale[:, None]).round().to(torch.int8), scale.to(torch.bfloat16)
        b = torch.from_numpy(bias)
        self.nbytes += codes.nbytes + scale.nbytes
        multiply = torch.ops.aten._weight_int8pack_mm

        def run(x: Array) -> Array:
            y = multiply(torch.from_numpy(x).to(torch.bfloat16), codes, scale)
            return (y.float() + b).numpy()

        return run


class TorchInt4(TorchArithmetic):
    """torch's weight-only int4 kernel: bf16 activations, a scale and a zero per group of 32."""

    def linear(self, weight: Array, bias: Array) -> Linear:
        w = torch.from_numpy(weight)
        groups = w.reshape(len(w), -1, 32)
        low, high = groups.amin(2), groups.amax(2)
        scale = (high - low) / 15
        codes = ((groups - low[..., None]) / scale[..., None]).round().to(torch.int32)
        parameters = torch.stack([scale, low + 8 * scale], 2).transpose(0, 1).contiguous()
        parameters = parameters.to(torch.bfloat16)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.reshape(w.shape), 1)
        b = torch.from_numpy(bias)
        self.nbytes += packed.nbytes + parameters.nbytes
        multiply = torch.ops.aten._weight_int4pack_mm_for_cpu

        def run(x: Array) -> Array:
            y = multiply(torch.from_numpy(x).to(torch.bfloat16), packed, 32, parameters)
            return (y.float() + b).numpy()

        return run


PLAIN = ("int8", "int7<group=64>", "int6<group=64>")  # close enough without calibration
CALIBRATED = ("int5<group=32>", "int4<group=64>", "int4<group=32>", "int3<group=32>",
              "int2<group=32>", "uint1<group=32, zero=shift>")  # fmt: skip
REQUIRED = {"int8": 0.999, "int4<group=32>": 0.98}
ROUNDS = 3


@dataclass
class Row:
    """One line of the table: an encoder, and what was measured of it."""

    name: str
    arithmetic: Arithmetic
    encoder: Encoder
    cosine: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    seconds: list[float] = field(default_factory=list[float])


def rows(checkpoint: Checkpoint) -> list[Row]:
    """Every contender, its weights quantised."""
    makers: dict[str, Callable[[], Arithmetic]] = {
        "torch fp32": TorchArithmetic,
        "torch int8 (channel)": TorchInt8,
        "torch int4 (group 32)": TorchInt4,
    }
    inputs = calibration(checkpoint)
    makers |= {f"tilec {f}": lambda f=f: TilecArithmetic(f, None) for f in PLAIN}
    makers |= {f"tilec {f}": lambda f=f: TilecArithmetic(f, inputs) for f in CALIBRATED}
    console = Console(stderr=True)
    done: list[Row] = []
    for name, make in track(makers.items(), "quantising", console=console, transient=True):
        arithmetic = make()
        done.append(Row(name, arithmetic, Encoder(checkpoint, arithmetic)))
    return done


def measure(contenders: list[Row], reference: Array, batch: Batch) -> None:
    """Cosines to the float model, and times of interleaved rounds."""
    console = Console(stderr=True)
    for row in track(contenders, "first run", console=console, transient=True):
        row.cosine = (row.encoder(batch) * reference).sum(1)
    for _ in range(ROUNDS):
        for row in contenders:
            start = time.perf_counter()
            row.encoder(batch)
            row.seconds.append(time.perf_counter() - start)


def table(contenders: list[Row], elements: int) -> Table:
    """The measurements, with times relative to torch in float32."""
    out = Table(
        title=f"all-MiniLM-L6-v2, {len(SENTENCES)} sentences: linear layers in each format",
        caption="tilec's int5 and below are rounded with calibration sentences (GPTQ); "
        "all others, torch's int4 too, to nearest",
    )
    for heading in ("linear layers", "bits/weight", "MB", "cosine mean", "least", "ms", "x fp32"):
        out.add_column(heading, justify="left" if heading == "linear layers" else "right")
    base = float(np.median(contenders[0].seconds))
    for row in contenders:
        size: int = getattr(row.arithmetic, "nbytes", 0)
        seconds = float(np.median(row.seconds))
        out.add_row(
            row.name, f"{8 * size / elements:.2f}", f"{size / 1e6:.2f}",
            f"{row.cosine.mean():.5f}", f"{row.cosine.min():.5f}",
            f"{seconds * 1e3:.1f}", f"{base / seconds:.2f}",
        )  # fmt: skip
    return out


def main() -> None:
    """Print the table; fail where a required fidelity is missed."""
    checkpoint = load()
    batch = tokenize(checkpoint, SENTENCES)
    reference = Encoder(checkpoint, NumpyArithmetic())(batch)
    contenders = rows(checkpoint)
    measure(contenders, reference, batch)
    elements = sum(w.size for w in checkpoint.dense().values())
    Console(width=100).print(table(contenders, elements))
    means = {row.name.removeprefix("tilec "): float(row.cosine.mean()) for row in contenders}
    for name, least in REQUIRED.items():
        if not means[name] >= least:
            raise SystemExit(f"{name}: the mean cosine is {means[name]:.5f}, expected {least}")


if __name__ == "__main__":
    main()
