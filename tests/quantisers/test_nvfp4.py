"""NVFP4's two recipes, each step in single floats as it is written down."""

import numpy as np
import pytest

from tilec.ir.codes import CODES
from tilec.ir.dtype import e4m3
from tilec.ir.errors import TileError
from tilec.quantisers import nvfp4

F = np.float32


def weights(seed: int) -> np.ndarray:
    """Rows of very different sizes, one block of zeros and one that is tiny."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((24, 96)) * 10.0 ** rng.integers(-3, 3, (24, 1))
    x[3, :16], x[4, 16:32] = 0, 1e-9
    return x.astype(np.float32)


def step_by_step(x: np.ndarray, recipe: str):
    """One block after the other with numpy's scalar floats."""
    most = F(np.abs(x).max())
    tensor = F(most / F(2688)) if recipe == "torchao" else F(F(1) / F(F(2688) / most))
    encode = F(F(2688) / most)
    codes, scales = np.zeros(x.shape), np.zeros((x.shape[0], x.shape[1] // 16))
    for i, row in enumerate(x):
        for g in range(x.shape[1] // 16):
            block = row[16 * g : 16 * g + 16]
            top = F(np.abs(block).max())
            if recipe == "torchao":
                ideal = min(max(F(F(top / F(6)) / tensor), F(2.0**-6)), F(448))
            else:
                ideal = min(F(top * F(encode * F(F(1) / F(6)))), F(448))
            s = F(e4m3.round(np.array(float(ideal)), saturate=True))
            scales[i, g] = s
            with np.errstate(divide="ignore", over="ignore"):
                factor = F(F(F(1) / tensor) / s) if recipe == "torchao" else \
                    min(F(F(1) / F(s * tensor)), np.finfo(F).max)  # fmt: skip
                scaled = [float(F(v * factor)) for v in block]
            codes[i, 16 * g : 16 * g + 16] = CODES["e2m1"].round(np.array(scaled), saturate=True)
    return float(tensor), scales, codes


@pytest.mark.parametrize("recipe", ["torchao", "transformer-engine"])
@pytest.mark.parametrize("seed", range(4))
def test_every_bit(recipe, seed):
    x = weights(seed)
    parts = nvfp4(x, recipe).parts()
    tensor, scales, codes = step_by_step(x, recipe)
    assert parts["scale.scale"] == tensor
    np.testing.assert_array_equal(parts["scale.codes"], scales)
    np.testing.assert_array_equal(parts["codes"], codes)


def test_the_recipes_differ():
    x = weights(9)
    a, b = (nvfp4(x, r).parts()["scale.codes"] for r in ("torchao", "transformer-engine"))
    assert (a[3, 0], b[3, 0]) == (2.0**-6, 0)
    assert (a[4, 1], b[4, 1]) == (2.0**-6, 0)
    assert 0 < (a != b).mean() < 0.6


@pytest.mark.parametrize("recipe", ["torchao", "transformer-engine"])
def test_close_to_the_weights(recipe):
    x = np.random.default_rng(0).standard_normal((32, 256))
    error = np.linalg.norm(nvfp4(x, recipe).dequantize() - x) / np.linalg.norm(x)
    assert error < 0.1
    assert not nvfp4(np.zeros((2, 32)), recipe).dequantize().any()


def test_wrong_calls():
    with pytest.raises(TileError, match="K is 20, expected a multiple of 16"):
        nvfp4(np.ones((2, 20)))
    with pytest.raises(TileError, match="no recipe is called 'cublas'; there are torchao and"):
        nvfp4(np.ones((2, 16)), "cublas")  # type: ignore[arg-type]
    with pytest.raises(TileError, match="not finite"):
        nvfp4(np.full((2, 16), np.nan))
