"""The page and its plots."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import bench_results as made
import pytest

from tilec.bench.report.causes import Causes
from tilec.bench.report.curves import by_threads, panels
from tilec.bench.report.growth import growths
from tilec.bench.report.html import element, joined
from tilec.bench.report.page import page, report, unexplained
from tilec.bench.report.plots import ceilings
from tilec.bench.report.results import read

VOID = {"meta", "path", "use", "rect", "circle", "line"}


class Parts(HTMLParser):
    """The words of a page, its names, what it asks for, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.ids += [v or "" for n, v in attrs if n == "id"]
        self.links += [v or "" for n, v in attrs if n in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.words.append(data.strip())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    suites = made.several()
    strange = {"tilec": 50.0, "torch bf16": 40.0, "read": 30.0}
    suites[0]["cases"].append(made.case("<b>odd & ends</b>", {}, strange, disturbed=True))
    suites[0]["cases"].append(made.case("no ours", {}, {"torch bf16": 40.0}, None,
                                        skipped={"tilec": "has no such format"}))  # fmt: skip
    (folder / "causes.toml").write_text("""[causes]
"int8 M=2" = "two passes over <w>"
[[tried]]
what = "prefetch by hand"
result = "1% slower"
""")
    results = made.write(folder / "run.json", *suites)
    return report([results], folder / "out")


@pytest.fixture(scope="module")
def parts(written):
    return Parts(written[0].read_text("utf-8"))


def test_the_page_is_whole_and_asks_for_nothing(parts):
    assert parts.open == []
    assert len(parts.ids) == len(set(parts.ids))
    assert {link[0] for link in parts.links} == {"#"}
    assert {link[1:] for link in parts.links} <= set(parts.ids)


def test_every_case_is_there(parts):
    words = parts.words
    for name in ("int4 M=1", "int8 M=8", "256 square", "1024 square", "<b>odd & ends</b>"):
        assert name in words
    assert "has no such format" in words
    assert "A Processor" in words
    assert "tilec 0.1.0, torch 2.0" in words
    assert any("processor time" in w for w in words)
    assert "50 us†" in words


def test_who_is_behind_and_why(parts):
    words = parts.words
    start = words.index("Behind a peer", words.index("Behind a peer") + 1)
    behind = words[start : words.index("Tried, and of no help", start)]
    assert sum(w.startswith("gemv, 1 thread: int8") for w in behind) == 4
    assert behind.count("gemv, 1 thread: <b>odd & ends</b>") == 1
    assert behind[behind.index("gemv, 1 thread: int8 M=2") + 2] == "two passes over <w>"
    assert behind.count("no cause given") == behind.count("torch bf16") + behind.count(
        "torch int4") - 1  # fmt: skip
    shown = [float(w[:-1]) for w in behind if re.fullmatch(r"[\d.]+x", w)]
    assert shown == sorted(shown)
    assert all(x < 1 for x in shown)
    assert "prefetch by hand" in words
    assert "llama-cpp-python is not installed" in words
    assert "has no int4" in words


def test_plots_are_files_and_parts_of_the_page(written):
    names = {p.name for p in written}
    assert names == {"index.html", "gemv-1-bars.png", "gemv-1-roofline.png", "gemv-1-m.png",
                     "gemm-2-bars.png", "gemm-2-roofline.png"}  # fmt: skip
    for path in written[1:]:
        assert path.read_bytes().startswith(b"\x89PNG")
    text = written[0].read_text("utf-8")
    assert text.count("<svg ") == 5
    assert not re.findall(r"#2563c9(?!;)", text), "a colour that no page can change"
    assert "int4 M=1: " in text
    assert "times as fast as torch bf16" in text
    assert "times as fast as torch int4" not in text, "a bar is of the fastest of a library"


def test_curves_are_of_one_axis(tmp_path):
    gemv, gemm = read(made.write(tmp_path / "a.json", *made.several())).suites
    found = panels(gemv.cases)
    assert list(found) == ["M"]
    assert [p.title for p in found["M"]] == ["int4, N=4096, K=4096", "int8, N=4096, K=4096"]
    assert found["M"][0].ticks == [1, 2, 4, 8]
    assert found["M"][0].wide
    assert [c.who for c in found["M"][0].curves] == ["torch int4", "torch bf16", "tilec"]
    assert panels(gemm.cases) == {}


def test_ceilings_of_a_run(tmp_path):
    suites = made.several()
    faster = made.case("f32", {}, {"tilec": 90.0, "arithmetic": 30.0}, "arithmetic")
    suites[1]["cases"].append(faster)
    roof = ceilings(read(made.write(tmp_path / "a.json", *suites)).cases)
    assert roof.bandwidth == pytest.approx(1e6 / 90e-6, rel=0.05)
    assert roof.peaks == pytest.approx((2e6 / 60e-6, 2e6 / 30e-6), rel=0.05)


def test_several_files_keep_apart(tmp_path):
    one = made.suite("gemv", [made.case("a", {}, {"tilec": 9.0, "torch bf16": 8.0}, None)])
    files = [made.write(tmp_path / f"{n}.json", one) for n in ("first", "second")]
    names = {p.name for p in report(files, tmp_path)}
    assert {"first-gemv-2-bars.png", "second-gemv-2-bars.png"} <= names
    words = Parts((tmp_path / "index.html").read_text()).words
    assert "first: gemv, 2 threads" in words


def test_text_is_escaped():
    assert element("a", "<&>", href='"x"', class_="") == '<a href="&quot;x&quot;">&lt;&amp;&gt;</a>'
    assert joined("<", element("b", "1")) == "&lt;<b>1</b>"


def test_the_growth_of_compiles(tmp_path):
    cases = [made.case(f"layers {n}", {"curve": "layers", "layers": n},
                       {"tilec": 1e5 * n * n, "torch compiled": 3e6 * n}, None, seed=n)
             for n in (1, 2, 4, 8)]  # fmt: skip
    for c in cases:
        n = c["axes"]["layers"]
        stages = {"fuse": 0.01 * n**2.5, "LLVM": 0.08 * n, "parse": 1e-4}
        c["contenders"]["tilec"]["about"] = {"stages": stages}
    results = made.write(tmp_path / "a.json", made.suite("programs", cases, 1))
    (panel,) = panels(read(results).cases)["layers"]
    found = {g.what: g for g in growths("layers", panel.cases)}
    assert list(found) == ["tilec", "torch compiled", "of that fuse", "of that LLVM"]
    assert found["tilec"].exponent == pytest.approx(2, abs=0.03)
    assert found["of that fuse"].exponent == pytest.approx(2.5)
    assert [g.steep for g in found.values()] == [True, False, True, False]
    assert "layers: of that fuse" in Parts(page([read(results)], Causes(), {})).words


def test_threads_are_an_axis_of_a_run(tmp_path):
    suites = [made.suite("threads", [made.case("gemv", {}, {"tilec": 90.0 / n}, None, seed=n)], n)
              for n in (1, 2, 3, 4)]  # fmt: skip
    (panel,) = by_threads(read(made.write(tmp_path / "a.json", *suites)).suites)
    assert (panel.title, panel.ticks) == ("gemv", [1, 2, 3, 4])
    assert by_threads(read(tmp_path / "a.json").suites[:2]) == []


def test_cases_that_failed_are_on_the_page(tmp_path):
    one = made.suite("gemv", [made.case("a", {}, {"tilec": 9.0, "torch": 8.0}, None)])
    one["failed"] = {"b": "tilec: its relative error is 1"}
    found = read(made.write(tmp_path / "a.json", one))
    words = Parts(page([found], Causes(), {})).words
    place = words.index("gemv, 2 threads: b")
    assert words[place + 1] == "tilec: its relative error is 1"
    figures = {words[i]: words[i + 1] for i in range(len(words)) if words[i + 1 : i + 2]}
    assert (figures["failed"], figures["of those, no cause given"]) == ("1", "1")


def test_causes_are_of_names_patterns_and_peers(tmp_path):
    times = {"tilec": 9.0, "torch": 8.0, "ggml": 7.0}
    cases = [made.case(n, {}, times, None) for n in ("int4 [1]", "int4 [2]", "f32 1")]
    file = made.write(tmp_path / "a.json", made.suite("gemv", cases))
    one, two, other = read(file).cases
    said = {"gemv: int4 *": "all", "int4 [1]": "one", "ggml | gemv: int4 [2*": "ggml's", "x *": ""}
    causes = Causes(said)
    assert (causes.of(one), causes.of(one, "torch"), causes.of(two, "torch")) == (
        "one", "one", "all")  # fmt: skip
    assert (causes.of(two, "ggml"), causes.of(other, "ggml")) == ("ggml's", "")
    assert causes.idle([one, two, other]) == ["x *"]
    (tmp_path / "causes.toml").write_text('[causes]\n"int4 *" = "codes"\n')
    assert unexplained([file]) == [f"gemv, 2 threads: f32 1: {p} ({r:.2f}x)"
                                   for p, r in other.peers.items()]  # fmt: skip
