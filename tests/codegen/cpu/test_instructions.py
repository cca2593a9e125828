"""Which instruction multiplies bf16: by what a processor has, and by how fast it is there."""

from dataclasses import replace

import numpy as np
import pytest
from lang import kernels
from products import upright

import tilec as tc
from tilec.cpu import Schedule, cpu_source
from tilec.ops.attention import decode
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine
from tilec.runtime.tensor import quantize

FEATURES = "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512bf16"
PAIRS, FLOATS = "call <16 x float> @llvm.x86.avx512bf16.dpbf16ps", "call <16 x float> @llvm.fma"
NUMBER = "load i32, ptr"  # of a page, or a length
AHEAD = "call void @llvm.prefetch"


def machine(cpu: str) -> Engine:
    """Two threads for a processor with products of bf16, which need not be this one."""
    return Engine(Cache(None), host_machine(cpu, FEATURES), threads=2)


def source(cpu: str, rows: int, weight: str = "int4<group=128>", columns: int = 128,
           deep: int = 512) -> str:  # fmt: skip
    types = {"x": tc.bf16, "w": tc.format(weight), "y": tc.f32}
    dims = {"M": rows, "N": columns, "K": deep}
    return cpu_source(kernels.linear.definition, types, dims, machine(cpu)).text


@pytest.mark.parametrize("weight", ["int4<group=128>", "bf16"])
def test_pairs_of_bf16_where_they_are_the_faster(weight):
    assert PAIRS in source("znver5", 64, weight)
    assert PAIRS in source("cooperlake", 64, weight)  # nothing is known of it
    assert PAIRS not in source("emeraldrapids", 64, weight)
    assert FLOATS in source("emeraldrapids", 64, weight)
    assert PAIRS in source("emeraldrapids", 1, weight)  # bound by reading
    dense = weight == "bf16"  # costs as much to turn as some rows of it
    assert (PAIRS in source("emeraldrapids", 16, weight, deep=4096)) == dense
    assert PAIRS not in source("emeraldrapids", 16, weight)  # a step is whole rows


def test_rows_further_on_are_asked_for_where_l1_does_not_hold_them():
    """A register tile of 6 rows and 4 vectors, one of 5 and 4: a vector each, and a line a step.
    Of few rows, which stay in L1, only the next panel is: a line for each of 16 columns."""
    many, few = (source("znver5", rows, "bf16").count(AHEAD) for rows in (256, 32))
    assert few == 16
    assert many - few == 6 * 4 + 5 * 4 + 2


def test_few_queries_multiply_keys_and_values_as_floats():
    """Those lie in whole rows, which both instructions read as they are."""
    host = machine("emeraldrapids")
    types = dict.fromkeys("qkvy", tc.bf16) | {"length": tc.i32}
    dims = {"B": 1, "G": 2, "H": 4, "S": 512, "D": 64, "E": 64}
    text = cpu_source(decode.definition, types, dims, host).text
    assert FLOATS in text
    assert PAIRS not in text


@pytest.mark.parametrize("wide", [64, 128])
def test_pages_are_asked_for_while_those_before_them_are_read(wide: int):
    """Whole pages and the last one have code of their own; both ask for the next page of values as
    they read one, all lines of four rows at a time. Dense keys are asked for some rows ahead."""
    host, pages = machine("emeraldrapids"), tc.format("paged<64, bf16, 8>")
    dims = {"B": 1, "G": 2, "H": 4, "S": 512, "D": 64, "E": wide}
    types = dict.fromkeys("qky", tc.bf16) | {"length": tc.i32}
    asked, alone = (cpu_source(decode.definition, types | {"v": pages}, dims, host, schedule=s).text
                    for s in (None, Schedule(ahead=0)))  # fmt: skip
    assert asked.count(NUMBER) == alone.count(NUMBER) + 2
    keys, values = 2 * 4, 4 * wide * 2 // 64  # the keys into both caches
    assert asked.count(AHEAD) == alone.count(AHEAD) + keys + 2 * values


@pytest.mark.parametrize("columns", [64, 4096])
def test_a_step_asks_for_the_lines_of_its_columns(columns: int):
    """Four rows of 64 floats, wherever the next row is, into each of two caches."""
    host = machine("emeraldrapids")
    types, dims = dict.fromkeys("xwy", tc.f32), {"M": 4, "N": columns, "K": 512}
    assert cpu_source(upright.definition, types, dims, host).text.count(AHEAD) == 2 * 4 * 4


@pytest.mark.parametrize(("cpu", "places"), [("emeraldrapids", [2, 3]), ("znver5", [3])])
def test_streams_are_asked_for_into_the_cache_that_is_the_faster(cpu, places):
    """All lines of a unit, and where a record has scales of its own, those behind its codes: 128
    bytes for 64 columns. From the second cache they are asked for once more."""
    lines = {}
    for weight in ("int4<channel, scale=bf16>", "int4<group=128, scale=bf16>"):
        found = [x for x in source(cpu, 1, weight).splitlines() if AHEAD in x]
        by = [sum(x.endswith(f"i32 0, i32 {place}, i32 1)") for x in found) for place in places]
        assert by == [len(found) / len(places)] * len(places)
        lines[weight[:6]] = by[0]
    assert lines == {"int4<c": 4, "int4<g": 4 + 2}


def test_a_panel_of_few_rows_is_decoded_in_parts():
    """Half of its 128 k's in f32 at a time, where sums of rows stay in L1 beside it."""
    host = machine("emeraldrapids")
    types = {"x": tc.bf16, "w": tc.format("int4<group=128>"), "y": tc.f32}
    few, many = (cpu_source(kernels.linear.definition, types, {"M": m, "N": 128, "K": 512},
                            host).workspace for m in (16, 100))  # fmt: skip
    sums, copy, half = 84 * 64 * 4, 84 * 512 * 4, 64 * 64 * 4
    assert many - few == copy + 2 * (sums + half)


@pytest.mark.parametrize("cpu", ["emeraldrapids", "znver5"])
@pytest.mark.parametrize(("weight", "n", "k"), [
    ("int4<group=32>", 70, 96), ("int8<channel>", 64, 100), ("int4<group=128>", 130, 256),
    ("int8<channel>", 64, 768), ("mxfp4", 130, 128), ("bf16", 67, 77), ("bf16", 64, 300),
    ("fp8", 96, 64)])  # fmt: skip
@pytest.mark.parametrize("rows", [1, 7, 16, 100])
def test_products_on_processors_of_either_kind(cpu, weight, n, k, rows):
    """The name of the processor decides what is chosen, within the features of this one."""
    host = Engine(Cache(None), replace(host_machine(), cpu=cpu))
    rng = np.random.default_rng([rows, n, k])
    x = tc.bf16.round(rng.standard_normal((rows, k)))
    known = tc.bf16.round(rng.standard_normal((n, k)).astype(np.float32))
    w = tc.bf16.to_storage(known)
    format = tc.format(weight)
    if weight != "bf16":
        w = quantize(known, format)
        known = w.dequantize()
    y = np.full((rows, n), np.nan, np.float32)
    types, dims = {"x": tc.bf16, "w": format, "y": tc.f32}, {"M": rows, "N": n, "K": k}
    compiled = host.load(cpu_source(kernels.linear.definition, types, dims, host))
    host.dispatcher("linear", lambda _: compiled).launch(tc.bf16.to_storage(x), w, y)
    want = x.astype(np.float64) @ known.astype(np.float64).T
    assert np.linalg.norm(y - want) <= 2e-6 * np.linalg.norm(want)


@tc.kernel
def weighted(x: tc.Tensor["M", "K"], w: tc.Tensor["K", "N"], y: tc.Tensor["M", "N"]):
    for m in tc.tiles("M"):
        p = tc.exp(x[m, :])
        y[m, :] = tc.dot(p, w[:, :]) / tc.sum(p, axis=1)[:, None]


@tc.kernel
def greatest(q: tc.Tensor["G", "M", "K"], k: tc.Tensor["G", "N", "K"], y: tc.Tensor["G", "M"]):
    for g, m in tc.tiles("G", "M", block=(1, None)):
        rows = q[g.start, m, :]
        most = tc.zeros((m,))
        for n in tc.tiles("N"):
            most = tc.maximum(most, tc.max(tc.dot(rows, k[g.start, n, :].T), axis=1))
        y[g.start, m] = most


def test_rows_in_scratch_memory_are_multiplied_where_they_are():
    """Floats that a sum reads, too, are not copied: each of two threads has 16 rows of them once,
    and of products, beside the second operand and less than as many rows again."""
    dims = {"M": 32, "K": 128, "N": 128}
    made = cpu_source(weighted.definition, dict.fromkeys("xwy", tc.f32), dims,
                      machine("emeraldrapids"))  # fmt: skip
    assert made.workspace < 2 * 4 * (128 * 128 + 3 * 16 * 128)


def test_rows_that_a_loop_multiplies_again_are_widened_before_it():
    """Only squares of 16 keys are read 16 elements at a time, and turned."""
    dims = {"G": 2, "M": 64, "K": 128, "N": 512}
    made = cpu_source(greatest.definition, dict.fromkeys("qky", tc.bf16), dims,
                      machine("emeraldrapids"))  # fmt: skip
    assert made.text.count("load <16 x i16>") == 16


def test_register_tiles_side_by_side_share_the_rows_of_the_next_step():
    """Values of 64 columns are asked for in both caches, in whole steps and in the last one, which
    is shorter: 4 rows of 2 lines. Those of 128, of two tiles, have 16 lines a round; in whole steps
    only the second cache is asked, by each tile for half of them."""
    types = dict.fromkeys("qkvy", tc.bf16) | {"length": tc.i32}
    dims = {"B": 1, "G": 2, "H": 4, "S": 512, "D": 64}
    asked: dict[int, list[int]] = {}
    for wide in (64, 128):
        text = cpu_source(decode.definition, types, {**dims, "E": wide},
                          machine("emeraldrapids")).text  # fmt: skip
        lines = [x for x in text.splitlines() if AHEAD in x]
        asked[wide] = [sum(x.endswith(f"i32 0, i32 {n}, i32 1)") for x in lines) for n in (2, 3)]
    (far, near), (wider, nearer) = asked[64], asked[128]
    assert wider - far == 2 * 16 - 2 * 8
    assert nearer - near == 16 - 2 * 8
