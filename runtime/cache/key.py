"""What an artifact is named after: all that decides its content."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

SCHEMA = 2  # of the headers of entries, which all readers of this version understand
_SHOWN = 120  # letters: what is longer is told by its digest
_INFO = ".dist-info"
_SHORT = 16  # letters of a digest that is only compared


@dataclass(frozen=True)
class Key:
    """An artifact: what makes it (`made_by`: kind, compiler, target), and what it is made from
    (`parts`: source and options). Values are JSON (tuples count as lists).

    `about` is for people, such as the kernel's name and shapes, and decides nothing. Raises
    TypeError or ValueError for values that are no JSON.
    """

    made_by: Mapping[str, Any]
    parts: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @cached_property
    def environment(self) -> str:
        """The name of the folder of all that the same toolchain makes: 16 hexadecimal digits."""
        return digest({"schema": SCHEMA, **_digests(self.made_by)})[:_SHORT]

    @cached_property
    def name(self) -> str:
        """sha256 over everything but `about`, in hexadecimal."""
        made_by, parts = _digests(self.made_by), _digests(self.parts)
        return digest({"schema": SCHEMA, "made_by": made_by, "parts": parts})

    def shown(self) -> dict[str, dict[str, str]]:
        """Each part as it is where that is short, else its digest: enough to say which differ."""
        return {"made_by": _shown(self.made_by), "parts": _shown(self.parts)}


@cache
def package_digest(package: str) -> str:
    """Which build of an installed package this is: its version and a digest of the digests that
    its wheel records (PEP 376, RECORD), so that no library is read; "absent" where it is not.

    What an installer writes is left out: two installations of one wheel are the same.
    """
    found = next(_described(package), None)
    if found is None:
        return "absent"
    try:
        lines = (found / "RECORD").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    kept = [x for x in lines if ",sha256=" in x and ".dist-info/" not in x and x[:3] != "../"]
    version = found.name.removesuffix(_INFO).partition("-")[2]
    return f"{package} {version} {digest(sorted(kept))[:_SHORT]}"


def _described(package: str) -> Iterator[Path]:
    """The folders that describe a package, in the order of sys.path. `importlib.metadata` does more
    and takes longer to import than to compile a kernel."""
    wanted = package.replace("-", "_").lower()
    for folder in sys.path:
        try:
            names = os.listdir(folder or os.curdir)
        except OSError:
            continue
        for name in names:
            if name.endswith(_INFO) and name.partition("-")[0].lower() == wanted:
                yield Path(folder, name)


def canonical(value: Any) -> str:
    """The one way to write a JSON value: sorted fields, no blanks, ASCII. Raises TypeError or
    ValueError for anything else."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """The SHA-256 of the canonical JSON of a value, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def _digests(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: _part(value) for name, value in values.items()}


def _part(value: Any) -> str:
    if isinstance(value, str):  # most bytes are here, and need no escapes
        return "s" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return digest(value)


def _shown(values: Mapping[str, Any]) -> dict[str, str]:
    texts = {n: v if isinstance(v, str) else canonical(v) for n, v in values.items()}
    return {
        n: t if len(t) <= _SHOWN else f"sha256:{_part(values[n])[-64:][:_SHORT]}"
        for n, t in texts.items()
    }
