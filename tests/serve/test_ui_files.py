"""The dashboard as files: nothing from elsewhere, no markup from strings, all of it served."""

import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from served import Client, served

ROOT = Path(__file__).parents[2]
UI = ROOT / "tilec" / "serve" / "ui"
FILES = sorted(p for p in UI.rglob("*") if p.is_file())
MODULES = [p for p in FILES if p.suffix == ".js"]
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript",
         ".svg": "image/svg+xml"}  # fmt: skip
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc"
                    r"|\beval\b|new Function|createContextualFragment|javascript:")  # fmt: skip


def _names(paths):
    return [str(p.relative_to(UI)) for p in paths]


@pytest.mark.parametrize("path", FILES, ids=_names(FILES))
def test_nothing_comes_from_elsewhere(path):
    text = path.read_text()
    assert set(re.findall(r"https?://[^\s\"'<>)]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert re.findall(r"url\(|@import|[\"'(]data:", text) == []
    assert len(text.splitlines()) < 400


@pytest.mark.parametrize("path", MODULES, ids=_names(MODULES))
def test_modules_make_no_markup_of_strings_and_import_what_is_there(path):
    text = path.read_text()
    assert MARKUP.findall(text) == []
    assert text.startswith("// ")
    for name in re.findall(r"from \"([^\"]+)\"", text):
        assert (path.parent / name).resolve() in FILES, name


def _long_functions(text):
    """The names of functions of more than 40 lines: what is indented as its head ends it."""
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if re.match(r"\s*(export )?(async )?function\b", line) or line.endswith("=> {"):
            indent = len(line) - len(line.lstrip())
            end = next(
                j
                for j in range(i + 1, len(lines))
                if lines[j].strip() and len(lines[j]) - len(lines[j].lstrip()) <= indent
            )
            if end - i >= 40:
                yield line.strip(), end - i + 1


@pytest.mark.parametrize("path", MODULES, ids=_names(MODULES))
def test_functions_are_short(path):
    assert dict(_long_functions(path.read_text())) == {}


def test_long_functions_would_be_found():
    body = "  x();\n" * 40
    assert [n for _, n in _long_functions(f"function f() {{\n{body}}}\n")] == [42]
    assert len(list(_long_functions(f"a(() => {{\n{body}}});\n{body}"))) == 1
    assert not list(_long_functions("function f() {\n  x();\n}\n" + body))


def test_every_module_is_used():
    used = {UI / "main.js"}
    for path in MODULES:
        found = re.findall(r"from \"([^\"]+)\"", path.read_text())
        used |= {(path.parent / name).resolve() for name in found}
    assert used == set(MODULES)


def test_the_page_has_no_script_or_style_of_its_own():
    class Page(HTMLParser):
        def handle_starttag(self, tag, attrs):
            given = dict(attrs)
            assert tag != "style"
            assert tag != "script" or given.get("src")
            assert not [n for n in given if n == "style" or n.startswith("on")]

    Page().feed((UI / "index.html").read_text())


def test_packages_take_the_files_along():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    taken = {p.removeprefix("*") for p in project["tool"]["setuptools"]["package-data"]["*"]}
    assert {p.suffix for p in FILES} <= taken


def test_the_service_serves_them_under_a_strict_policy(tmp_path):
    async def check(c: Client):
        answers = {p: await c.http.get(f"/ui/{p.relative_to(UI).as_posix()}") for p in FILES}
        for path in ("/", "/ui"):
            assert (await c.http.get(path)).headers["location"] == "/ui/"
        return answers, await c.http.get("/ui/"), await c.http.get("/ui/../auth.py")

    answers, first, outside = served(check, tmp_path)
    for path, answer in answers.items():
        assert (answer.status_code, answer.content) == (200, path.read_bytes())
        assert answer.headers["content-type"].split(";")[0] == KINDS[path.suffix]
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; ")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert first.content == (UI / "index.html").read_bytes()
    assert outside.status_code in (400, 404)
