"""The dashboard in a real browser: Chromium by Playwright, on a service in this process."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import finished_studies
import pytest
from browsed import EVIL, FORMULA, SCRIPT, Running, hostile
from finished_studies import Past
from tuning_spaces import MAKERS

from tilec.serve import auth

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="there is no Playwright here"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    found = Running(tmp_path_factory.mktemp("ui"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def ids(running):
    found = finished_studies.fill(running.service.database, started=time.time() - 900)
    return {**found, "hostile": hostile(running.service)}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    flags = ["--disable-gpu"] + (["--no-sandbox"] if os.geteuid() == 0 else [])
    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


@pytest.fixture
def open_page(browser, running):
    """Opens a page; what it complains of or asks other hosts for is an error at the end."""
    wrong, contexts = [], []

    def opened(path, expected=r"^$", url=running.url, **options):
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning")
                and not re.search(expected, m.text) and wrong.append(m.text))  # fmt: skip
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.on("request", lambda r: urlsplit(r.url).hostname not in ("127.0.0.1", None)
                and not r.url.startswith("blob:") and wrong.append(r.url))  # fmt: skip
        page.set_default_timeout(60_000)
        page.goto(f"{url}/ui/{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def _numbers(page):
    return [int(n) for n in page.eval_on_selector_all(
        ".trials tbody tr", "rows => rows.map((r) => r.dataset.trial)")]  # fmt: skip


def _analysed(page):
    page.wait_for_selector("h2:has-text('Parameter importance') + figure rect.bar")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [420, 1400])
def test_every_page_fits_and_complains_of_nothing(open_page, ids, width, scheme):
    page = open_page("#/studies", viewport={"width": width, "height": 900}, color_scheme=scheme)
    waited = {"#/studies": "[data-study]", "#/workers": "[data-worker]",
              "#/configs": "table", "#/nowhere": ".nothing"}  # fmt: skip
    waited |= {f"#/studies/{i}": "h1" for i in ids.values()}
    for path, selector in waited.items():
        page.evaluate("(to) => { location.hash = to; }", path)
        page.wait_for_selector(selector)
        if path.endswith(ids["done"]):
            _analysed(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = sum(map(int, re.findall(r"\d+", ground)[:3])) < 200
        assert dark == (scheme == "dark")


def test_the_list_is_filtered_and_leads_to_a_study(open_page, ids):
    page = open_page("")
    page.wait_for_selector("[data-study]")
    assert page.locator("[data-study]").count() == len(ids)
    page.fill("input[type=search]", "softmax done")
    assert page.locator("[data-study]").count() == 1
    page.fill("input[type=search]", "no such study")
    assert "No study matches" in page.inner_text("main")
    page.fill("input[type=search]", "convolution")
    page.click("text=depthwise convolution")
    page.wait_for_selector("h1:has-text('depthwise convolution')")
    assert page.url.endswith(ids["running"])


def test_a_study_beyond_the_first_page_is_found(open_page, tmp_path):
    found = Running(tmp_path)
    try:
        product, now = MAKERS["product"](1), time.time()
        for i in range(53):
            name = "the oldest" if i == 0 else f"layer {i}"
            Past(found.service.database, product, name, started=now - 60 * (60 - i)).submit()
        page = open_page("#/studies", url=found.url)
        page.wait_for_selector("[data-study]")
        assert page.locator("[data-study]").count() == 50
        page.fill("input[type=search]", "oldest running")
        page.wait_for_selector("text=the oldest")
        assert page.locator("[data-study]").count() == 1
        page.fill("input[type=search]", "")
        assert page.locator("[data-study]").count() == 50
        page.click("text=Older studies")
        page.wait_for_selector("text=the oldest")
        assert page.locator("[data-study]").count() == 53
    finally:
        found.stop()


def test_a_finished_study_shows_everything(open_page, ids):
    page = open_page(f"#/studies/{ids['done']}")
    _analysed(page)
    text = page.inner_text("main")
    for words in ("Winner, confirmed", "Best so far, by evaluations", "Best so far, by time",
                  "Parameter importance", "Compare configs", "Parallel coordinates", "Failures",
                  "Confirmation", "Roofline of the winner", "Workers", "Noise",
                  "of what the device can do"):  # fmt: skip
        assert words in text
    assert page.locator("svg path.band").count() == 2
    assert page.locator("svg path.best").count() == 2
    assert page.locator("path.strand").count() > 90
    assert page.locator("svg path.ceiling").count() == 1
    assert page.locator("rect.state-confirm").count() == 1
    assert page.locator(".finalists tbody tr").count() == 9
    assert page.locator(".finalists .chip:has-text('winner')").count() == 1
    page.click("summary:has-text('wrong result')")
    assert "relative norm 3.1e-01" in page.inner_text("main")


def test_the_table_is_sorted_filtered_and_compared(open_page, ids):
    page = open_page(f"#/studies/{ids['done']}")
    page.wait_for_selector(".trials tbody tr")
    assert _numbers(page)[:3] == [1, 2, 3]
    page.click(".trials th button:has-text('time')")
    times = page.eval_on_selector_all(".trials tbody tr td:nth-child(3)",
                                      "cells => cells.map((c) => c.textContent)")  # fmt: skip
    values = [float(t.removesuffix(" ms")) for t in times if t.endswith(" ms")]
    assert values == sorted(values)
    assert len(values) > 50
    head = page.locator(".trials th[aria-sort=ascending]")
    assert head.inner_text().startswith("time")
    page.click(".trials th button:has-text('time')")
    slowest = _numbers(page)[0]
    assert slowest == 1  # the default; what has no time stays last
    page.fill("input[aria-label='Filter trials by text']", "order=row bm=16")
    configs = page.eval_on_selector_all(".trials tbody tr", "rows => rows.map((r) => r.innerText)")
    assert configs
    assert all("row" in c and "\t16\t" in c for c in configs)
    page.fill("input[aria-label='Filter trials by text']", "")
    page.select_option("select[aria-label='Filter trials by state']", "poison")
    assert page.locator(".trials tbody tr").count() == page.locator(".trials .chip").count() > 0
    page.select_option("select[aria-label='Filter trials by state']", "all states")
    for number in (1, 2):
        page.check(f"input[aria-label='Compare trial {number}']")
    heads = page.locator(".diff thead th").all_inner_texts()
    assert heads == ["parameter", "trial 1", "trial 2"]
    assert page.locator(".diff tr.differs").count() > 0
    assert "faster" in page.inner_text(".diff tr.total")


def test_a_range_on_an_axis_chooses_trials(open_page, ids):
    page = open_page(f"#/studies/{ids['done']}")
    page.wait_for_selector("path.strand")
    everything = page.locator("path.strand").count()
    rail = page.locator("rect.rail[data-axis=time]")
    rail.scroll_into_view_if_needed()
    box = rail.bounding_box()
    middle = box["x"] + box["width"] / 2
    page.mouse.move(middle, box["y"] + box["height"] - 4)
    page.mouse.down()
    page.mouse.move(middle, box["y"] + box["height"] * 0.8, steps=4)
    page.mouse.up()
    out = page.locator("path.strand.out").count()
    assert 0 < out < everything
    page.click(".trials th button:has-text('trial')")
    page.click(".trials th button:has-text('trial')")
    assert f"{everything - out} of 121 trials" in page.inner_text("main")
    chosen = set(_numbers(page))
    lit = page.eval_on_selector_all("path.strand:not(.out)",
                                    "all => all.map((p) => Number(p.dataset.trial))")  # fmt: skip
    assert chosen <= set(lit)
    page.click("button:has-text('Clear ranges')")
    assert page.locator("path.strand.out").count() == 0
    assert "121 trials" in page.inner_text("main")


def test_ranges_are_set_with_the_keys(open_page, ids):
    page = open_page(f"#/studies/{ids['done']}")
    page.wait_for_selector("path.strand")
    rail = page.locator("rect.rail[data-axis=warps]")
    assert rail.get_attribute("aria-label") == "warps: no range"
    rail.focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    assert rail.get_attribute("aria-label") == "warps: 1 to 2"
    assert rail.get_attribute("aria-pressed") == "true"
    out = page.locator("path.strand.out").count()
    assert out > 50
    page.keyboard.press("Shift+ArrowUp")
    assert rail.get_attribute("aria-label") == "warps: 2 to 2"
    assert page.locator("path.strand.out").count() >= out
    page.keyboard.press("Escape")
    assert page.locator("path.strand.out").count() == 0


def test_keys_reach_everything_and_read_the_curve(open_page, ids):
    page = open_page(f"#/studies/{ids['done']}")
    _analysed(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    kinds = []
    for _ in range(60):
        page.keyboard.press("Tab")
        kinds.append(page.evaluate("document.activeElement.tagName.toLowerCase()"))
    assert {"a", "svg", "select", "rect", "input", "button"} <= set(kinds)
    page.locator("svg[tabindex]").first.focus()
    page.keyboard.press("ArrowLeft")
    tip = page.locator(".tip:visible")
    assert "best so far" in tip.inner_text()
    before = tip.inner_text()
    page.keyboard.press("ArrowLeft")
    assert tip.inner_text() != before
    unnamed = page.eval_on_selector_all(
        "button, input, select, svg[role=img]",
        "all => all.filter((e) => !(e.ariaLabel || e.innerText || e.labels?.length)).length",
    )
    assert unnamed == 0


def test_text_from_users_stays_text(open_page, ids):
    page = open_page("#/studies", expected="422")
    page.wait_for_selector("[data-study]")
    for path in ("#/studies", f"#/studies/{ids['hostile']}", "#/workers", "#/configs"):
        page.evaluate("(to) => { location.hash = to; }", path)
        page.wait_for_timeout(1500)
        for summary in page.locator("summary").all():
            summary.click()
        assert page.locator("main img").count() == 0
        assert page.locator("main script").count() == 0
        assert page.title() != "owned"
        if path != "#/configs":
            assert EVIL in page.inner_text("main")
    page.evaluate("(to) => { location.hash = to; }", f"#/studies/{ids['hostile']}")
    page.wait_for_selector("summary")
    for summary in page.locator("summary").all():
        summary.click()
    assert SCRIPT in page.inner_text("main")
    page.evaluate("(to) => { location.hash = to; }", "#/studies/" + "%3Cimg%20src%3Dx%3E")
    page.wait_for_selector("[role=alert]")
    assert page.locator("main img").count() == 0


def test_exports_are_no_formulas(open_page, ids):
    page = open_page(f"#/studies/{ids['hostile']}")
    page.wait_for_selector(".trials tbody tr")
    with page.expect_download() as started:
        page.click("button:has-text('Export CSV')")
    assert re.fullmatch(r"[A-Za-z0-9.-]+\.csv", started.value.suggested_filename)
    rows = list(csv.reader(io.StringIO(Path(started.value.path()).read_text())))
    assert len(rows) == 25
    assert rows[0][:5] == ["trial", "purpose", "state", "failure", "time_ms"]
    assert rows[2][-1] == "'" + FORMULA
    cells = [c for row in rows for c in row]
    assert not [c for c in cells if re.match(r"\s*[=+@\t\r|%]|-[^\d]", c)]


def test_a_study_under_way_is_followed(open_page, running):
    past = Past(running.service.database, MAKERS["product"](1), "followed", budget=20,
                started=time.time() - 60).submit()  # fmt: skip
    page = open_page(f"#/studies/{past.id}")
    page.wait_for_selector(".live[data-on=true]")
    assert "No trial yet" in page.inner_text("main")
    past.run(14)
    past.event("trial", number=14, state="done")
    running.service.changed()
    page.wait_for_selector(".trials tbody tr[data-trial='14']")
    page.focus("input[aria-label='Compare trial 3']")
    past.put(planned=20, exhausted=1)
    past.finish()
    running.service.changed()
    page.wait_for_selector("dt:has-text('Winner, confirmed')")
    page.wait_for_selector(".chip[data-kind=done]")
    _analysed(page)
    assert page.locator(".live:visible").count() == 0
    assert page.evaluate("document.activeElement.ariaLabel") == "Compare trial 3"


def test_tokens_are_asked_for_and_kept_out_of_addresses(open_page, tmp_path):
    found = Running(tmp_path, anonymous=False)
    try:
        token = found.service.database.write(
            lambda tx: auth.made(tx, "people", "default", ["read"], time.time()))  # fmt: skip
        page = open_page("#/workers", expected="401", url=found.url)
        page.wait_for_selector("input[type=password]")
        page.fill("input[type=password]", "tilec_wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector(".problem")
        asked = []
        page.on("request", lambda r: asked.append(r.url))
        page.fill("input[type=password]", token)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=No worker has registered yet")
        page.click("nav >> text=Studies")
        page.wait_for_selector("text=There are no studies yet")
        assert asked
        assert not [u for u in [*asked, page.url] if token in u]
        page.click("text=Sign out")
        page.wait_for_selector("input[type=password]")
    finally:
        found.stop()


def test_a_service_that_is_gone_is_said(open_page, tmp_path):
    found = Running(tmp_path)
    page = open_page("#/studies", expected="ERR_CONNECTION|Failed to load", url=found.url)
    page.wait_for_selector("text=There are no studies yet")
    found.stop()
    page.click("nav >> text=Workers")
    page.wait_for_selector("[role=alert]")
    assert "does not answer" in page.inner_text("main")


def test_an_unknown_study_is_said(open_page):
    page = open_page("#/studies/s" + "0" * 20, expected="404")
    page.wait_for_selector("[role=alert]")
    assert "there is no such study" in page.inner_text("main")


def test_the_colours_can_be_chosen(open_page):
    page = open_page("#/studies")
    page.select_option("select[aria-label=Colours]", "dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(18, 21, 26)"
    page.reload()
    assert page.evaluate(ground) == "rgb(18, 21, 26)"
    page.select_option("select[aria-label=Colours]", "light")
    assert page.evaluate(ground) == "rgb(245, 246, 248)"
