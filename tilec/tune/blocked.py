"""Configs that took two tuning processes down, here or where a package comes from: not tried again.

A process that measures a config is a child, and survives nearly all; what takes its parent along,
or the machine, leaves a mark here that nobody removed. One entry of the cache for each kernel,
device and toolchain; who writes at the same time may lose a mark.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tilec.ir.errors import TileError
from tilec.runtime.cache import Cache, Entry, Key
from tilec.tune import strict
from tilec.tune.config import Config

KIND = "blocked"
LOST = 2  # processes, after which a config is blocked
ANY = ""  # device
MOST = 10_000  # configs of a package
FIELDS = ("kernel", "device", "toolchain", "config")


class Blocklist:
    """The blocked configs of a kernel on a device (a digest; empty: any) by a toolchain. Without a
    cache there are none."""

    def __init__(self, cache: Cache | None, kernel: str, device: str, toolchain: str) -> None:
        self._cache, self._of = cache, {"kernel": kernel, "device": device, "toolchain": toolchain}
        self._blocked, self._lost, mark = self._read()
        if mark is not None and not _lives(mark[1]):
            self._lost[mark[0]] = self._lost.get(mark[0], 0) + 1
            if self._lost[mark[0]] >= LOST:
                self._blocked[mark[0]] = None
            self._write()

    @property
    def configs(self) -> frozenset[Config]:
        """What is not to be tried."""
        anywhere = dict[Config, None]()
        if self._of["device"] != ANY:
            there = Blocklist(self._cache, **{**self._of, "device": ANY})
            anywhere = there._blocked
        return frozenset({**self._blocked, **anywhere})

    def add(self, config: Config) -> None:
        """Block a config."""
        self._blocked[config] = None
        self._write()

    @contextmanager
    def trying(self, config: Config) -> Generator[None]:
        """While this lasts, the death of this process is put down to a config."""
        self._write((config, _owner()))
        try:
            yield
        finally:
            self._write()

    def _key(self) -> Key:
        return Key({"kind": KIND}, self._of, {"kernel": f"blocked {self._of['kernel'][:12]}"})

    def _write(self, mark: tuple[Config, list[str]] | None = None) -> None:
        if self._cache is None:
            return
        data = {
            **self._of, "configs": [c.to_json() for c in self._blocked],
            "lost": [[c.to_json(), n] for c, n in self._lost.items()],
            "trying": mark and [mark[0].to_json(), mark[1]],
        }  # fmt: skip
        self._cache.put(self._key(), Entry(json.dumps(data).encode(), {"kind": KIND}))

    def _read(self) -> tuple[dict[Config, None], dict[Config, int], Any]:
        """What is kept: nothing where that can't be read."""
        entry = None if self._cache is None else self._cache.get(self._key())
        try:
            return _parts(b"" if entry is None else entry.payload)
        except TileError:
            return {}, {}, None


def _parts(data: bytes) -> tuple[dict[Config, None], dict[Config, int], Any]:
    """Blocked configs, how often others took a process down, what is being tried and by whom.
    Raises TileError."""
    said = strict.document(data.decode("utf-8", "replace"), "a blocklist")
    found = strict.fields(said, "a blocklist", (*FIELDS[:3], "configs", "lost", "trying"))
    blocked = dict.fromkeys(map(Config.from_json, strict.array(found["configs"], "configs")))
    pairs = [strict.array(p, "a count") for p in strict.array(found["lost"], "lost")]
    lost = {Config.from_json(c): strict.typed(n, int, "a count") for c, n in pairs}
    if found["trying"] is None:
        return blocked, lost, None
    config, owner = strict.array(found["trying"], "trying")
    return blocked, lost, (Config.from_json(config), strict.array(owner, "an owner"))


def _owner() -> list[str]:
    """This process, told from all others of this machine: its boot, its number, its start."""
    return [_boot(), str(os.getpid()), _started(os.getpid())]


def _lives(owner: list[Any]) -> bool:
    boot, pid, started = (str(v) for v in owner)
    return boot == _boot() and pid.isdecimal() and _started(int(pid)) == started


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in ticks since the boot, by proc(5); empty for none."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        return said.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def exported(payloads: Iterable[bytes]) -> list[dict[str, Any]]:
    """Entries of a cache as the rows of a package. What can't be read is left out."""
    found: list[dict[str, Any]] = []
    for data in payloads:
        try:
            blocked, _, _ = _parts(data)
        except TileError:
            continue
        said = json.loads(data)
        found += [{"kernel": said["kernel"], "device": said["device"] or None,
                   "toolchain": said["toolchain"], "config": c.to_json()}
                  for c in blocked]  # fmt: skip
    return found


def rows_of(document: Mapping[str, Any]) -> list[tuple[Blocked, Config]]:
    """The rows of a package that was checked. Raises TileError for what is no such row."""
    rows = strict.array(document.get("blocklist", []), "a blocklist")
    if len(rows) > MOST:
        raise TileError(f"a package blocks {len(rows)} configs, expected at most {MOST}")
    return [_row(r) for r in rows]


Blocked = tuple[str, str, str]  # kernel, device, toolchain


def _row(row: object) -> tuple[Blocked, Config]:
    found = strict.fields(row, "a blocked config", FIELDS)
    device = ANY if found["device"] is None else strict.typed(found["device"], str, "a device")
    kernel, toolchain = (strict.typed(found[n], str, f"a {n}") for n in ("kernel", "toolchain"))
    return (kernel, device, toolchain), Config.from_json(found["config"])
