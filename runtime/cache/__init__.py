"""A disk cache of compiled artifacts, addressed by the content that they were made from.

An entry is one file that says what it is and carries its checksum (`entry`). Whatever happens to
the disk is a miss: never a wrong artifact, never an error of the user's call.
"""

from __future__ import annotations

from tilec.runtime.cache.entry import Entry
from tilec.runtime.cache.key import Key
from tilec.runtime.cache.place import default_directory, open_cache
from tilec.runtime.cache.refusal import Refusal
from tilec.runtime.cache.store import Cache
from tilec.runtime.cache.sweep import Bounds

__all__ = ["Bounds", "Cache", "Entry", "Key", "Refusal", "default_directory", "open_cache"]
