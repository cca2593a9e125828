"""Words of a user's program in generated text: names, comments and strings that stay what they are.

A name may be in any alphabet and of any length, and a line of source may hold anything: neither may
end the line, comment or string that it is printed in.
"""

from __future__ import annotations

import hashlib
import re

_PLAIN = re.compile(r"(?!tilec_)_?[A-Za-z][A-Za-z0-9_]{0,62}")
_LETTERS = 40  # of a name that are kept


def symbol(name: str) -> str:
    """A name for compilers, linkers and files: itself if it is short and ASCII, and not one of our
    own functions; else what there is of that, with a digest."""
    if _PLAIN.fullmatch(name):
        return name
    letters = re.sub(r"[^A-Za-z0-9]+", "_", name)[:_LETTERS].strip("_")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"k_{letters}_{digest}" if letters else f"k_{digest}"


def comment(text: str) -> str:
    """A text as the rest of one line, in any language: what can't be printed is a question mark."""
    shown = "".join(c if c.isprintable() else "?" for c in text.strip())
    return f"{shown} ." if shown.endswith("\\") else shown


def quoted(text: str) -> str:
    """A text as a string of C++, in quotes. It has no escapes: NVRTC leaves them out of the PTX
    that it makes."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return '"' + shown.replace("\\", "/").replace('"', "'") + '"'
