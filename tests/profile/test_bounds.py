"""Rooflines of kernels, counted by hand."""

from __future__ import annotations

import pytest

from tilec.artifacts import retyped
from tilec.ir.errors import TileError
from tilec.ir.named import named
from tilec.lang.text import parse
from tilec.profile.bounds import after, before
from tilec.profile.devices import DEVICES, device, least
from tilec.profile.work import KINDS, Work

LINEAR = """kernel linear(x: f16[M, K], w: {w}[N, K], y: f32[M, N]) {{
  for m, n in tiles(M, N) {{
    acc = zeros(f32, [m, n])
    for k in tiles(K) {{ acc += dot(x[m, k], w[n, k].T) }}
    y[m, n] = acc * 2.0
  }}
}}"""
DIMS = {"M": 1, "N": 4096, "K": 4096}
OTHERS = 2 * 4096 + 4 * 4096  # bytes of x and y


def linear(w: str = "f16"):
    (found,) = parse(LINEAR.format(w=w)).values()
    return found


def test_a_format_takes_bytes_away():
    first = before(linear(), DIMS)
    last = after(retyped(linear(), {"w": named("int4<group=128>")}), DIMS)
    assert first.work.operations == last.work.operations == 2 * 4096 * 4096 + 4096
    assert first.work.compulsory == first.work.bytes == 2 * 4096 * 4096 + OTHERS
    assert last.work.compulsory == 4096 * 4096 * (4 + 16 / 128) / 8 + OTHERS
    assert last.work.types["w"].startswith("int4<group=128")
    assert first.work.types["w"] == "f16"
    assert last.intensity == pytest.approx(3.88 * first.intensity, rel=0.01)
    h100 = device("h100")
    assert first.bound(h100).by == last.bound(h100).by == "memory"
    assert last.bound(h100).seconds == last.work.bytes / 3350e9


def test_what_is_written_with_codes_is_decoded():
    found = before(linear("int4<group=128>"), DIMS).work
    assert found.types["w"] == "f32"
    assert found.bytes == 4 * 4096 * 4096 + OTHERS


def test_fusion_takes_kernels_away():
    (definition,) = parse("""program norm(x: f32[M, N], y: f32[M, N]) {
      y = exp(x) * 2.0 + 1.0
    }""").values()
    dims = {"M": 64, "N": 1024}
    first, last = before(definition, dims), after(definition, dims)
    assert first.kernels > last.kernels == 1
    assert last.work.bytes == last.work.compulsory == 2 * 4 * 64 * 1024
    assert first.work.bytes >= 3 * last.work.bytes
    assert first.work.operations == last.work.operations == 3 * 64 * 1024


def test_arithmetic_bounds_a_large_product():
    found = after(linear(), {"M": 4096, "N": 4096, "K": 4096})
    bound = found.bound(device("a100"))
    assert bound.by == "arithmetic"
    assert bound.seconds == found.work.operations / 312e12


@pytest.mark.parametrize("name", DEVICES)
def test_the_table_of_devices(name):
    found = DEVICES[name]
    assert found.name == name
    assert set(found.rates) == set(KINDS)
    assert found.rates["f32"] < found.rates["half"] < found.rates["int8"]
    assert 100e9 < found.bytes < 20e12
    assert found.source
    work = Work({}, {}, 0, 0, 10**12, "int8")
    assert least(found, work, 10) == (10**12 / found.rates["int8"], "arithmetic")
    assert least(found, Work({}, {}, 0, 0, 10**12, "half", sparse=True), 10)[1] == "memory"


def test_a_device_that_nobody_knows():
    with pytest.raises(TileError, match="no device is called 'h1000'; there are host, a100"):
        device("h1000")
