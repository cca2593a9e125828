"""Elements of a page: text is escaped, unless it is a page's already."""

from __future__ import annotations

from html import escape


class Html(str):
    """Text that is a part of a page as it is."""


def element(name: str, *inside: str, **attributes: str) -> Html:
    """An element; `class_` is its class; what is empty is left out."""
    given = "".join(f' {n.rstrip("_").replace("_", "-")}="{escape(v)}"'
                    for n, v in attributes.items() if v)  # fmt: skip
    return Html(f"<{name}{given}>{joined(*inside)}</{name}>")


def joined(*parts: str) -> Html:
    """Parts one behind the other."""
    return Html("".join(p if isinstance(p, Html) else escape(p) for p in parts))


def table(headings: list[str], rows: list[list[str]], left: int = 1) -> Html:
    """A table that scrolls sideways where it is too wide; `left` columns are no numbers, and the
    first names its row."""
    head = [element("th", h, scope="col", class_="" if i < left else "number")
            for i, h in enumerate(headings)]  # fmt: skip
    body: list[Html] = []
    for row in rows:
        cells = [element("th", row[0], scope="row")]
        cells += [element("td", cell, class_="" if i < left else "number")
                  for i, cell in enumerate(row[1:], 1)]  # fmt: skip
        body.append(element("tr", *cells))
    whole = element("table", element("thead", element("tr", *head)), element("tbody", *body))
    return element("div", whole, class_="scrolled", tabindex="0")
