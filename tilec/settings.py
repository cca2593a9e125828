"""What the environment says: the only place that reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tilec.ir.errors import TileError


@dataclass(frozen=True)
class Settings:
    """TILEC_CACHE_DIR or the XDG cache directory, and TILEC_THREADS (0: one per processor)."""

    environment: dict[str, str]
    threads: int


def settings() -> Settings:
    """The settings of this process. Raises TileError where a variable is not what it should be."""
    text = os.environ.get("TILEC_THREADS", "0")
    if not text.isdecimal():
        raise TileError(f"TILEC_THREADS is {text!r}, expected a whole number")
    return Settings(dict(os.environ), int(text))
