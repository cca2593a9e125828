"""Bytes and passes of kernels, counted by hand; the graph; `tilec explain`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tilec.cli import app
from tilec.explain import explain, shown
from tilec.explain.graph import graph_of
from tilec.explain.svg import layers
from tilec.explain.traffic import Kernel, compulsory, kernels
from tilec.ir.core import Func
from tilec.lang.text import parse
from tilec.passes.specialise import specialise

EXAMPLES = Path(__file__).parents[2] / "examples"
DIMS = {"M": 100, "N": 60, "K": 50}


def known(text: str, **dims: int) -> Func:
    """The only kernel or program of a text, with numbers for its dimensions."""
    (found,) = parse(text).values()
    return specialise(found.ir(), **(DIMS | dims))


def only(text: str, **dims: int) -> Kernel:
    """Its only kernel."""
    (found,) = kernels(known(text, **dims)).values()
    return found


def seen(k: Kernel) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Bytes and sharing of what it reads and writes."""
    return {a.tensor: (a.bytes, a.again) for a in (*k.reads, *k.writes)}


def test_a_product_reads_each_operand_once() -> None:
    k = only("""kernel k(x: f16[M, K], w: int4<group=50>[N, K], y: f32[M, N]) {
      for m, n in tiles(M, N) {
        acc = zeros(f32, [m, n])
        for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
        y[m, n] = acc
      }
    }""")
    weight = 60 * 50 // 2 + 60 * 2  # codes, and a scale in f16 for each row
    assert seen(k) == {"x": (10000, ("n",)), "w": (weight, ("m",)), "y": (24000, ())}
    assert [a.passes for a in k.reads] == [1.0, 1.0]
    assert k.ops == ("dot",)
    assert k.lines == (3, 4, 5)
    assert k.bytes == 10000 + weight + 24000


def test_each_loop_over_an_operand_is_a_pass() -> None:
    k = only("""kernel k(x: f32[M, K], y: f32[M, K]) {
      for m in tiles(M) {
        most = full([m], -1e30)
        for k in tiles(K) { most = maximum(most, max(x[m, k], axis=1)) }
        total = zeros(f32, [m])
        for k in tiles(K) { total = total + sum(exp(x[m, k] - most[:, none]), axis=1) }
        for k in tiles(K) { y[m, k] = exp(x[m, k] - most[:, none]) / total[:, none] }
      }
    }""")
    (x,) = k.reads
    assert (x.passes, x.bytes, x.compulsory) == (3.0, 60000, 20000)


def test_loops_that_do_not_index_an_operand_read_it_again() -> None:
    text = """kernel k(x: f32[M, 4], ids: i32[8], y: f32[M, 4]) {
      for m in tiles(M, block=1) {
        acc = zeros(f32, [4])
        for n in tiles(N, block=15) { acc += x[m.start, :] * 1.0 }
        y[m.start, :] = acc
      }
    }""".replace("ids: i32[8]", "ids: i32[N]")
    k = only(text)
    (x,) = k.reads
    assert (x.tensor, x.passes) == ("x", 4.0)


def test_what_tiles_that_are_not_chosen_read_again_is_said() -> None:
    k = only("""kernel k(x: f32[M, K], w: f32[N, K], y: f32[M]) {
      for m in tiles(M) {
        most = full([m], -1e30)
        for n in tiles(N) {
          acc = zeros(f32, [m, n])
          for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
          most = maximum(most, max(acc, axis=1))
        }
        y[m] = most
      }
    }""")
    assert seen(k) == {"x": (20000, ("n",)), "w": (12000, ("m",)), "y": (400, ())}


def test_gathered_rows_and_parts_count_as_they_are() -> None:
    func = known("""program p(x: f32[N, K], ids: i32[4]) { return x[ids], x[0:6, :] * 2.0 }""")
    reads = {a.tensor: a.bytes for k in kernels(func).values() for a in k.reads}
    assert reads["x"] in (4 * 50 * 4, 60 * 50 * 4)
    assert compulsory(func) == 60 * 50 * 4 + 4 * 4 + 4 * 50 * 4 + 6 * 50 * 4


def test_ops_outside_of_grids_are_kernels_of_their_own() -> None:
    func = known("program p(x: f32[M, N], b: f32[N], y: f32[M, N]) { y = exp(x + b) }")
    found = [(k.ops, [a.bytes for a in k.reads], [a.bytes for a in k.writes])
             for k in kernels(func).values()]  # fmt: skip
    size = 100 * 60 * 4
    assert found == [(("add",), [size, 240], [size]), (("exp",), [size], [size]),
                     (("store",), [size], [size])]  # fmt: skip
    assert compulsory(func) == 2 * size + 240


def test_the_graph_has_tensors_ops_and_views_in_its_edges() -> None:
    func = known("""program p(x: f32[M, N], b: f32[N], y: f32[M, N]) {
      y = exp(x + b)
      y += 1.0
    }""")
    g = graph_of(func)
    names = [n.name for n in g.nodes]
    assert names == ["x", "b", "add", "exp", "store", "y", "add", "store", "y"]
    assert g.edges == [(0, 2), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8)]
    assert layers(g) == [0, 0, 1, 2, 3, 4, 5, 6, 7]


def test_fusion_of_attention_is_one_pass_over_keys_and_values() -> None:
    found = parse((EXAMPLES / "attention.tile").read_text())["attention"]
    dims = {"B": 2, "H": 4, "M": 256, "N": 256, "D": 64}
    e = explain(found, {}, dims)
    (kernel,) = e.kernels
    assert {a.tensor: a.passes for a in kernel.reads} == dict.fromkeys("qkv", 1.0)
    assert e.compulsory == sum(k.bytes for k in e.kernels) == 4 * 2 * 4 * 256 * 64 * 2
    assert len(e.unfused) > 10
    assert any(r.origin == "fuse" for r in e.remarks)


def test_sizes_are_shown_for_people() -> None:
    assert [shown(n) for n in (0, 999, 1000, 262144, 5 * 10**9)] == [
        "0 B", "999 B", "1 kB", "262.1 kB", "5 GB"]  # fmt: skip


def tilec(*words: str) -> Result:
    """The command line."""
    return CliRunner().invoke(app, list(words))


def test_the_command_shows_kernels_bytes_and_reasons(tmp_path: Path) -> None:
    path = tmp_path / "graph.svg"
    file = str(EXAMPLES / "attention.tile")
    dims = ("--dims", "B=1,H=2,M=32,N=32,D=16")
    done = tilec("explain", file, *dims, "--svg", str(path))
    assert done.exit_code == 0, done.stderr
    assert "every op a kernel" in done.stdout
    assert "kernel0, lines 6-8" in done.stdout
    assert re.search(r"k\s+│ read\s+│ 2.048 kB", done.stdout)
    assert "fuse: " in done.stdout
    text = path.read_text()
    assert text.startswith("<svg xmlns=")
    assert text.count("<rect") == text.count("<g>") > 20
    assert "1 kernels" in text
    document = json.loads(tilec("explain", file, *dims, "--json").stdout)
    assert document["compulsory"] == sum(k["bytes"] for k in document["after"]["kernels"])
    assert {a["tensor"] for a in document["after"]["kernels"][0]["reads"]} == {*"qkv"}
    assert len(document["before"]["graph"]["nodes"]) == 17


def test_the_command_refuses_what_is_missing() -> None:
    done = tilec("explain", str(EXAMPLES / "attention.tile"), "--dims", "B=1")
    assert done.exit_code == 1
    assert "no number for the dimensions H, M, D, N" in done.stderr


@pytest.mark.parametrize("name", ["linear", "softmax"])
def test_kernels_are_explained_too(name: str) -> None:
    done = tilec("explain", str(EXAMPLES / f"{name}.tile"))
    assert done.exit_code == 0, done.stderr
    assert "kernel0" in done.stdout
