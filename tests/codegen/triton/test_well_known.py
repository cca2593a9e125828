"""Well-known kernels of `examples`, from PTX against doubles; each is shorter than its usual text.

`usual.json` says how long the Triton functions are that people know them by: lines and tokens by
`source_length.py`, repository, path and commit.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from source_length import length
from well_known import CASES, EXAMPLES, F16, dims, grouped, kernel, normal, types

import tilec as tc
from tilec.ir.dtype import Array
from tilec.ir.named import named
from tilec.runtime.tensor import quantize
from tilec.runtime.triton import compile_for
from tilec.sass import stats_of
from tilec.triton import triton_source

pytest.importorskip("triton")
from triton_ptx import executed, in_memory

USUAL = json.loads((Path(__file__).parent / "usual.json").read_text())
SLOW = pytest.mark.slow
HEADS = {"H": 8, "M": 1024, "D": 64}


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW) if " " in n else n for n in CASES])
def test_right_from_ptx(name):
    case, k = CASES[name](), kernel(name)
    given = case.poisoned()
    source = triton_source(k.definition, dims(k, given), types(k, given))
    report = executed(source, given)
    assert report.clean, report
    assert not case.wrong(given), source.text


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in CASES if " " not in n])
def test_right_with_dimensions_as_arguments(name):
    case, k = CASES[name](), kernel(name)
    given = case.poisoned()
    source = triton_source(k.definition, {}, types(k, given))
    arguments: dict[str, Array | int] = {**given, **dims(k, given)}
    report = executed(source, arguments)
    assert report.clean, report
    assert not case.wrong(given), source.text


@pytest.mark.parametrize("format", [
    "int4<group=128>", *(pytest.param(f, marks=SLOW) for f in (
        "uint4<group=128, zero=int>", "int3<group=128>", "int2<group=64>", "int8<channel>"
    ))
])  # fmt: skip
def test_packed_experts(format):
    """The grouped product as it stands, with weights of other formats."""
    k, w = kernel("kernels/products:grouped_matmul"), normal(1, (4, 33, 256))
    packed = quantize(w, named(format), search=False)
    case = grouped(normal(0, (90, 256), F16), packed.dequantize())
    given = case.poisoned()
    formats = {"x": tc.f16, "w": packed.format, "y": tc.f32}
    source = triton_source(k.definition, dims(k, given), formats)
    given |= in_memory(source, "w", packed)
    report = executed(source, given)
    assert report.clean, report
    assert not case.wrong(given), source.text
    assert "input_precision" not in source.text  # products of 16 bits


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sizes", "instruction"), [
    ("attention:attention", HEADS, "HGMMA"),
    ("attention:attention_dq", HEADS, "HGMMA"),
    ("attention:attention_dkv", HEADS, "HGMMA"),
    ("products:grouped_matmul", {"T": 4096, "E": 8, "N": 1024, "K": 1024}, "HGMMA"),
    ("products:int8_matmul", {"M": 512, "N": 512, "K": 1024}, "IGMMA"),
    ("products:fp8_matmul", {"M": 512, "N": 512, "K": 1024, "G": 8, "B": 4}, "QGMMA"),
])  # fmt: skip
def test_machine_code_for_hopper(name, sizes, instruction):
    """Warp-group products, copies past the registers, nothing spilled."""
    k, given = kernel(f"kernels/{name}"), CASES[f"kernels/{name}"]().poisoned()
    build = compile_for(triton_source(k.definition, sizes, types(k, given)), "sm_90")
    (stats,) = stats_of(build.cubin, dynamic_shared=build.shared)
    assert stats.code.count(instruction)
    assert stats.code.count("LDGSTS")
    assert not stats.spills


@pytest.mark.parametrize("row", USUAL, ids=[r["kernel"] for r in USUAL])
def test_shorter_than_the_usual_text(row):
    """In lines of code, and in tokens, which no formatting changes."""
    text = (EXAMPLES / f"{row['file']}.py").read_text()
    lines, tokens = length(text, row["functions"])
    assert lines < row["usual"]["lines"]
    assert tokens < row["usual"]["tokens"]


def test_every_kernel_is_compared():
    ours = {f"{r['file']}:{f}" for r in USUAL for f in r["functions"]}
    assert ours >= {name.split()[0] for name in CASES}


READABLE = {
    "attention": ("kernels/attention:attention", {}, {}),
    "grouped_matmul": ("kernels/products:grouped_matmul", {}, {}),
    "grouped_matmul_int4": (
        "kernels/products:grouped_matmul", {"w": named("int4<group=128>")}, {"N": 4096, "K": 4096}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READABLE)
def test_source_is_readable(name, golden):
    """Dimensions are arguments where a format does not need their numbers."""
    title, formats, sizes = READABLE[name]
    k = kernel(title)
    given = types(k, CASES[title]().poisoned())
    text = triton_source(k.definition, sizes, given | formats).text
    assert len(text.splitlines()) < 120
    assert max(map(len, text.splitlines())) <= 100
    golden(f"{name}.py.txt", text)
