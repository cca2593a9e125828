"""One page of all results: whole in itself, for any browser, by day and by night."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tilec.bench.report.causes import Causes, beside
from tilec.bench.report.curves import by_threads, panels
from tilec.bench.report.figures import Picture
from tilec.bench.report.growth import growths
from tilec.bench.report.html import Html, element, joined, table
from tilec.bench.report.plots import bars, ceilings, curves, roofline
from tilec.bench.report.results import Case, Results, Suite, Timing, read
from tilec.bench.report.spread import paired
from tilec.ir.errors import TileError
from tilec.profile.table import seconds

PAGE = "index.html"
DAGGER = "†"
NOTES = {"behind": "Behind a peer", "tried": "Tried, and of no help", "failed": "Failed",
         "skipped": "Skipped"}  # fmt: skip
UNKNOWN = "no cause given"
Drawn = Mapping[tuple[int, int], Sequence[Picture]]  # by the numbers of a file and a suite


def report(results: list[Path], out: Path, drew: Callable[[str], object] = str) -> list[Path]:
    """Write the page of some results and its plots as PNG into a folder: the files' paths. `drew`
    is told each suite whose plots are drawn. Raises TileError for files that are no results."""
    found, causes = _read(results)
    drawn: dict[tuple[int, int], list[Picture]] = {}
    for i, run in enumerate(found):
        for j, suite in enumerate(run.suites):
            drawn[i, j] = _pictures(run, suite, f"{_word(run.path.stem)}-" * (len(found) > 1))
            drew(suite.title)
    try:
        out.mkdir(parents=True, exist_ok=True)
        written = [out / PAGE]
        written[0].write_text(page(found, causes, drawn), "utf-8")
        for p in (p for pictures in drawn.values() for p in pictures):
            written.append(out / f"{p.name}.png")
            written[-1].write_bytes(p.png)
        return written
    except OSError as e:
        raise TileError(f"{out} can't be written: {e}") from None


def unexplained(results: list[Path]) -> list[str]:
    """The cases of some results that are behind a peer without a cause, and that peer."""
    found, causes = _read(results)
    return [f"{_full(c)}: {p} ({c.peers[p]:.2f}x)" for run in found for c in run.cases
            for p in c.behind if not causes.of(c, p)]  # fmt: skip


def _read(results: list[Path]) -> tuple[list[Results], Causes]:
    found, causes = [read(p) for p in results], Causes()
    for path in results:
        causes |= beside(path)
    return found, causes


def _word(text: str) -> str:
    return re.sub(r"[^\w]+", "-", text)


def _pictures(run: Results, suite: Suite, prefix: str) -> list[Picture]:
    """Every plot that a suite has something for."""
    name = f"{prefix}{_word(suite.name)}-{suite.threads}"
    roof = ceilings([c for c in run.cases if c.threads == suite.threads])
    found = [bars(suite, name), roofline(suite, roof, name)]
    found += [curves(suite, axis, each, name) for axis, each in panels(suite.cases).items()]
    same = [s for s in run.suites if s.name == suite.name]
    threads = by_threads(same) if suite is same[0] else []
    if threads:
        found.append(curves(suite, "threads", threads, name))
    return [p for p in found if p is not None]


def page(found: Sequence[Results], causes: Causes, drawn: Drawn) -> str:
    """The page as text."""
    cases = [c for run in found for c in run.cases]
    title = "tilec beside the field"
    places = [(i, j, f"s{i}-{j}") for i, run in enumerate(found) for j in range(len(run.suites))]
    links = [element("a", _title(found, i, j), href=f"#{at}") for i, j, at in places]
    links += [element("a", text, href=f"#{at}") for at, text in NOTES.items()]
    parts = [
        element("header", element("h1", title), *(_machine(r) for r in found),
                _figures(found, causes)),
        element("nav", *links, aria_label="Parts of this page"),
        *(_suite(_title(found, i, j), found[i].suites[j], drawn.get((i, j), ()), at)
          for i, j, at in places),
        _behind(cases, causes), _tried(causes), _failed(found), _skipped(found),
    ]  # fmt: skip
    style = Path(__file__).with_name("page.css").read_text("utf-8")
    head = joined(
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", title), element("style", Html(style)),
    )  # fmt: skip
    body = element("body", element("main", *parts))
    return f"<!doctype html>\n{element('html', element('head', head), body, lang='en')}\n"


def _title(found: Sequence[Results], i: int, j: int) -> str:
    """A suite's name, with that of its file where there are several."""
    title = found[i].suites[j].title
    return f"{found[i].path.stem}: {title}" if len(found) > 1 else title


def _machine(run: Results) -> Html:
    """What was measured on."""
    machine = dict(run.machine)
    versions: Any = machine.pop("versions", {})
    facts = [(n.replace("_", " "), str(v)) for n, v in machine.items()]
    facts.append(("versions", ", ".join(f"{n} {v}" for n, v in versions.items())))
    rows = [element("div", element("dt", n), element("dd", v)) for n, v in facts if v]
    return element("dl", *rows, class_="facts")


def _figures(found: Sequence[Results], causes: Causes) -> Html:
    """How it stands, in a few numbers."""
    cases = [c for run in found for c in run.cases]
    beside_peers = [c for c in cases if c.peers]
    behind = [c for c in beside_peers if c.behind]
    unknown = sum(any(not causes.of(c, p) for p in c.behind) for c in behind)
    failed = sum(len(s.failed) for run in found for s in run.suites)
    figures = [
        ("cases", len(cases), False),
        ("beside a peer", len(beside_peers), False),
        ("ahead of every peer", len(beside_peers) - len(behind), False),
        ("behind a peer", len(behind), False),
        (f"of those, {UNKNOWN}", unknown, unknown > 0),
        ("failed", failed, failed > 0),
    ]
    each = [element("div", element("dt", n), element("dd", str(v), class_="behind" * wrong))
            for n, v, wrong in figures]  # fmt: skip
    return element("dl", *each, class_="figures")


def _suite(title: str, suite: Suite, pictures: Sequence[Picture], at: str) -> Html:
    """A suite: its plots, then each case in a row."""
    plots = [element("figure", Html(p.svg), element("figcaption", p.says)) for p in pictures]
    said = f"{suite.rounds} rounds or more of every contender, one after the other."
    others = list(suite.others)
    headings = ["case", "ours", "share of ceiling", "calls kept", *others]
    rows = [_row(c, others) for c in suite.cases]
    notes = [
        "Under a time are the 10% and 90% quantiles. A column of another says how many times as "
        "fast ours is, then its own time and share.",
    ]
    if any(_disturbed(t) for c in suite.cases for t in c.contenders.values()):
        notes.append(
            f"{DAGGER} every round was disturbed: the processor time of all threads, "
            "which stands for such cases in plots too."
        )
    return element(
        "section", element("h2", title), element("p", said, class_="quiet"),
        element("div", *(element("div", p, class_="scrolled", tabindex="0") for p in plots),
                class_="plots"),
        table(headings, rows), *(element("p", n, class_="quiet") for n in notes), _growth(suite),
        id=at, class_="card",
    )  # fmt: skip


def _growth(suite: Suite) -> Html:
    """How fast compiling grows with programs, and which stages that is."""
    rows: list[list[str]] = []
    for axis, each in panels(suite.cases).items():
        for panel in each:
            found = growths(axis, panel.cases) if panel.staged else []
            rows += [[f"{panel.title or suite.name}: {g.what}", seconds(g.first), seconds(g.last),
                      element("b", f"{g.exponent:.2f}", class_="behind" if g.steep else "")]
                     for g in found]  # fmt: skip
    if not rows:
        return Html()
    said = ("The exponent e says that time grows as length to the power of e, from the shortest to "
            "the longest: above 1, long programs pay more for each part.")  # fmt: skip
    return joined(element("h3", "Growth"), table(["what", "shortest", "longest", "exponent"], rows),
                  element("p", said, class_="quiet"))  # fmt: skip


def _row(case: Case, others: Sequence[str]) -> list[str]:
    ours = case.ours
    if ours is None:
        why = case.skipped.get("tilec", "not measured")
        return [case.name, element("span", why, class_="quiet"), "", "", *[""] * len(others)]
    share = "" if ours.share is None else f"{ours.share:.0%} of {case.ceiling}"
    return [case.name, _timed(ours), share, f"{ours.kept} of {ours.timed}",
            *(_other(case, n) for n in others)]  # fmt: skip


def _timed(timing: Timing) -> Html:
    """A time, and its spread below; of a model the tokens of a second, and memory."""
    return joined(element("b", _time(timing)), element("small", _spread(timing)), _tokens(timing))


def _tokens(timing: Timing) -> Html:
    """Tokens of a second, and the bytes of a model with those that a call takes beside them."""
    tokens = timing.about.get("tokens")
    if not tokens or not timing.time:
        return Html()
    memory = (timing.bytes + (timing.peak or 0)) / 1e6
    return element("small", f"{tokens / timing.time:.4g} tokens/s, {memory:.4g} MB")


def _time(timing: Timing) -> str:
    return seconds(timing.time) + DAGGER * _disturbed(timing)


def _disturbed(timing: Timing) -> bool:
    return timing.seconds is None and timing.work is not None


def _spread(timing: Timing) -> str:
    if timing.low is None or timing.high is None:
        return ""
    return f"{seconds(timing.low)} to {seconds(timing.high)}"


def _other(case: Case, name: str) -> Html:
    """How many times as fast as another, its time and spread; or why there is none."""
    timing, ratio = case.contenders.get(name), case.ratios.get(name)
    if timing is None:
        return element("small", case.skipped.get(name, ""), class_="quiet why")
    value = ratio.value if ratio else None
    said = "" if value is None else f"{value:.2f}x"
    kind = "behind" if name in case.behind else ""
    share = "" if timing.share is None else f", {timing.share:.0%}"
    return joined(element("b", said, class_=kind), element("small", _time(timing) + share),
                  element("small", _spread(timing)), _tokens(timing))  # fmt: skip


def _behind(cases: Sequence[Case], causes: Causes) -> Html:
    """Every case that a peer does faster, the worst first, with its cause."""
    found = [(c.peers[p], c, p) for c in cases for p in c.behind]
    rows: list[list[str]] = []
    for value, case, peer in sorted(found, key=lambda x: x[0]):
        cause = causes.of(case, peer) or element("strong", UNKNOWN, class_="behind")
        rows.append([_full(case), peer, cause, element("b", f"{value:.2f}x", class_="behind"),
                     _sure(case, peer)])  # fmt: skip
    parts = [element("p", "None: no peer is faster in any case.")]
    if rows:
        headings = ["case", "peer", "cause", "ours is so many times as fast", "95% of rounds"]
        parts = [table(headings, rows, left=3)]
    idle = causes.idle(list(cases))
    if idle:
        parts.append(element("p", f"Causes of cases that are not here: {', '.join(idle)}.",
                             class_="quiet"))  # fmt: skip
    return element("section", element("h2", NOTES["behind"]), *parts, id="behind", class_="card")


def _full(case: Case) -> str:
    return f"{case.suite}, {case.threads} thread{'s' * (case.threads != 1)}: {case.name}"


def _sure(case: Case, peer: str) -> str:
    """Where the ratio is likely to be, by rounds drawn again."""
    ours, theirs = case.ours, case.contenders.get(peer)
    found = paired(theirs.rounds, ours.rounds) if ours and theirs else None
    return "" if found is None else f"{found.low:.2f} to {found.high:.2f}"


def _tried(causes: Causes) -> Html:
    rows: list[list[str]] = [[t.what, t.result] for t in causes.tried]
    inside = table(["what", "what came of it"], rows, left=2) if rows else element(
        "p", "Nothing was noted.")  # fmt: skip
    return element("section", element("h2", NOTES["tried"]), inside, id="tried",
                   class_="card")  # fmt: skip


def _failed(found: Sequence[Results]) -> Html:
    """Cases without a result of ours, with the reason."""
    rows: list[list[str]] = [[f"{s.title}: {name}", why] for run in found for s in run.suites
                             for name, why in s.failed.items()]  # fmt: skip
    inside = table(["case", "why"], rows, left=2) if rows else element(
        "p", "None: every case has a result.")  # fmt: skip
    return element("section", element("h2", NOTES["failed"]), inside, id="failed", class_="card")


def _skipped(found: Sequence[Results]) -> Html:
    """Peers that did not take part, by suite, and in single cases."""
    why: dict[tuple[str, str], list[str]] = {}
    for run in found:
        for suite in run.suites:
            for peer, reason in suite.skipped.items():
                why.setdefault((peer, reason), []).append(suite.title)
            for case in suite.cases:
                for peer, reason in case.skipped.items():
                    why.setdefault((peer, reason), []).append(f"{suite.title}: {case.name}")
    rows: list[list[str]] = [[peer, reason, _places(where)] for (peer, reason), where
                             in sorted(why.items())]  # fmt: skip
    inside = table(["peer", "why", "where"], rows, left=3) if rows else element(
        "p", "Nothing was skipped.")  # fmt: skip
    return element("section", element("h2", NOTES["skipped"]), inside, id="skipped", class_="card")


def _places(where: Sequence[str]) -> Html:
    """Places as a list that opens, where there are many."""
    unique = list(dict.fromkeys(where))
    if len(unique) <= 3:
        return joined("; ".join(unique))
    items = [element("li", w) for w in unique]
    count = element("summary", f"{len(unique)} places")
    return element("details", count, element("ul", *items))
