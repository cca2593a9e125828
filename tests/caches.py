"""An entry of the cache for tests, and directories as other users would leave them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tilec.runtime.cache import Cache, Entry, Key

PAYLOAD = bytes(range(256)) * 3
KEY = Key(
    {"kind": "object", "target": "znver5"},
    {"text": "define void @k()", "options": [1, 2]},
    {"kernel": "k"},
)
ENTRY = Entry(PAYLOAD, {"entry": "k"})
STRANGER = 54321  # a user id


def stored(cache: Cache, key: Key = KEY) -> Path:
    """The file of an entry that was just kept."""
    assert cache.put(key, ENTRY)
    path = cache.path(key)
    assert path is not None
    return path


def anothers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file another user's: truly where we may, else by being another user ourselves."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
