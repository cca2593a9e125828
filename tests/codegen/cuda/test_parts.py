"""Parts of tiles, tiles one after the other, and random bits, in kernels as people write them."""

from __future__ import annotations

import numpy as np
import pytest
from emulated import poisoned, program_of, run

import tilec as tc
from tilec.codegen.cuda.headers import device_headers
from tilec.ir.interpret import interpret
from tilec.runtime.nvrtc import compile_cuda


@tc.kernel
def rotated(x: tc.Tensor["M", 6], c: tc.Tensor["M", 6], s: tc.Tensor["M", 6],
            y: tc.Tensor["M", 6]):  # fmt: skip
    """Halves of 3 columns, which are padded to 4."""
    for m in tc.tiles("M", block=4):
        t = x[m, :]
        turned = tc.join([-t[:, 3:], t[:, :3]], axis=1)
        y[m, :] = t * c[m, :] + turned * s[m, :]


@tc.kernel
def embedded(x: tc.Tensor["M", 128], c: tc.Tensor["M", 128], s: tc.Tensor["M", 128],
             y: tc.Tensor["M", 128]):  # fmt: skip
    """Halves of 64 columns."""
    for m in tc.tiles("M", block=32):
        t = x[m, :]
        turned = tc.join([-t[:, 64:], t[:, :64]], axis=1)
        y[m, :] = t * c[m, :] + turned * s[m, :]


@tc.kernel
def dropped(x: tc.Tensor["M", "K"], seed: tc.u32, y: tc.Tensor["M", "K"]):
    """A quarter of the elements, by their places."""
    for m, k in tc.tiles("M", "K", block=(8, 16)):
        place = tc.reshape(m.index, (m, 1)) * 1000 + k.index
        y[m, k] = tc.where(tc.random_bits(seed, place) < 1073741824, 0.0, x[m, k])


ROTATED = {6: rotated, 128: embedded}


@pytest.mark.parametrize("rows", [1, 7, 40])
@pytest.mark.parametrize("width", ROTATED)
def test_halves_change_places(rows, width):
    """Whole numbers: exact."""
    rng = np.random.default_rng(rows)
    x, c, s = (rng.integers(-9, 10, (rows, width)).astype(np.float32) for _ in range(3))
    y = poisoned((rows, width), tc.f32)
    types = dict.fromkeys("xcsy", tc.f32)
    run(program_of(ROTATED[width], types, {"M": rows}), {"x": x, "c": c, "s": s, "y": y})
    half = width // 2
    assert np.array_equal(y, x * c + np.concatenate([-x[:, half:], x[:, :half]], 1) * s)


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_what_chance_drops_is_what_the_interpreter_drops(seed):
    rows, columns = 21, 37
    x = np.random.default_rng(1).standard_normal((rows, columns)).astype(np.float32)
    y, want = poisoned(x.shape, tc.f32), np.full(x.shape, np.nan)
    dims = {"M": rows, "K": columns}
    run(program_of(dropped, {"x": tc.f32, "y": tc.f32}, dims), {"x": x, "seed": seed, "y": y})
    given = {"x": x.astype(float), "seed": np.array(seed), "y": want}
    interpret(dropped.ir(x=tc.f32, y=tc.f32), given, dims)
    assert np.array_equal(y, want)
    assert 0.15 < np.mean(y == 0) < 0.35


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_devices_compile_the_same_source(target):
    for kernel in (*ROTATED.values(), dropped):
        types = {p.name: tc.f32 for p in kernel.definition.signature.params if p.name != "seed"}
        text = program_of(kernel, types, {"M": 40, "K": 37}).source.text
        build = compile_cuda(text, target, headers=device_headers(), line_info=False)
        assert "warning" not in build.log
