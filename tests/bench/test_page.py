"""The page in a browser: it fits, in light and dark, and asks for nothing."""

from __future__ import annotations

import os
import re
import shutil
from importlib.util import find_spec

import bench_results as made
import pytest

from tilec.bench.report.page import report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="there is no Playwright here"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    flags = ["--disable-gpu"] + (["--no-sandbox"] if os.geteuid() == 0 else [])
    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return report([made.write(folder / "a.json", *made.several())], folder / "out")[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_it_fits_and_asks_for_nothing(browser, page, width, scheme):
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown = context.new_page()
    shown.on("console", lambda m: wrong.append(m.text))
    shown.on("pageerror", lambda e: wrong.append(str(e)))
    shown.on("request", lambda r: r.url != page.as_uri() and wrong.append(r.url))
    shown.goto(page.as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.locator("figure svg").count() == 5
    line = shown.locator("figure svg text").first
    colour, ground = (e.evaluate("e => getComputedStyle(e).getPropertyValue("
                                 "e instanceof SVGElement ? 'fill' : 'background-color')")
                      for e in (line, shown.locator("body")))  # fmt: skip
    levels = [sum(map(int, re.findall(r"\d+", c)[:3])) for c in (colour, ground)]
    assert (levels[0] > levels[1] + 150) == (scheme == "dark")
    context.close()
    assert wrong == []
