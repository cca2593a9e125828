"""What is in a cache, looked at from outside: for the command line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tilec.runtime.cache import disk, sweep
from tilec.runtime.cache.entry import Damage, OtherVersion, Stored, decode
from tilec.runtime.cache.store import LAYOUT, Cache
from tilec.runtime.cache.sweep import File

_MOST = 1 << 40  # bytes of an entry, when all are looked at


@dataclass(frozen=True)
class Row:
    """A file of a cache: the entry that it holds, or what is wrong with it."""

    file: File
    stored: Stored | None
    damage: str = ""

    @property
    def name(self) -> str:
        """The key, as the file's name has it."""
        return self.file.path.stem

    @property
    def environment(self) -> str:
        """The folder of the toolchain."""
        return self.file.path.parents[2].name

    @property
    def kind(self) -> str:
        """What sort of artifact this is; `failure` for a negative entry."""
        if self.file.failure:
            return "failure"
        return "" if self.stored is None else self.stored.key["made_by"].get("kind", "")

    @property
    def kernel(self) -> str:
        """The kernel that it is of, where the entry says."""
        return "" if self.stored is None else str(self.stored.about.get("kernel", ""))


def rows(root: Path) -> Iterator[Row]:
    """Every file of a cache, read and verified; it is not marked as used."""
    for file in sorted(sweep.files(root), key=lambda f: -f.used):
        try:
            seen = disk.read(file.path, _MOST, stamp=False, locks=False)
            yield Row(file, decode(seen.data, file.path.stem))
        except FileNotFoundError:
            continue  # evicted meanwhile
        except (Damage, OtherVersion, disk.NoFile, OSError) as e:
            yield Row(file, None, str(e))


def strangers(root: Path) -> list[Path]:
    """What lies among the entries and is none: links, pipes, directories, other names."""
    known = {f.path for f in sweep.files(root)}
    found: list[Path] = []
    for environment in sorted(root.glob("[0-9a-f]*")):
        for kind in ("o", "f"):
            for folder, folders, names in os.walk(environment / kind):
                linked = [n for n in folders if Path(folder, n).is_symlink()]
                nested = folders if Path(folder) != environment / kind else []
                odd = {Path(folder, n) for n in (*linked, *nested, *names)} - known
                found += sorted(odd)
    return found


def removed(paths: Iterable[Path]) -> int:
    """Delete what is among the entries, links themselves and not what they lead to; how many."""
    gone = 0
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
        gone += not os.path.lexists(path)
    return gone


@dataclass(frozen=True)
class Collected:
    """How many files went, and why."""

    damaged: int
    chosen: int
    evicted: int
    left_over: int


def collected(cache: Cache, chosen: Callable[[Row], bool]) -> Collected:
    """Remove what is damaged, what is chosen, what is beyond the bounds, and all leftovers.

    Raises OSError where the folder can't be written.
    """
    root = cache.root
    if root is None:
        return Collected(0, 0, 0, 0)
    found = list(rows(root))
    bad = [*(r.file.path for r in found if r.damage), *strangers(root)]
    old = [r.file.path for r in found if not r.damage and chosen(r)]
    left_over = sweep.tidy(root, quarantine=0)
    return Collected(removed(bad), removed(old), len(cache.tidied()), left_over)


def packed(chosen: Iterable[Row], out: Path) -> int:
    """Copy entries into a folder that others can read as a layer; how many. Raises OSError."""
    root, count = out / LAYOUT, 0
    (root / "tmp").mkdir(parents=True, exist_ok=True)
    for row in chosen:
        old = row.file.path
        new = root / Path(*old.parts[-4:])
        new.parent.mkdir(parents=True, exist_ok=True)
        data = disk.read(old, _MOST, stamp=False, locks=False).data
        decode(data, row.name)
        disk.publish(new, data, root / "tmp", 0o644)
        manifest = old.parents[2] / "manifest.json"
        if manifest.is_file():
            (new.parents[2] / "manifest.json").write_bytes(manifest.read_bytes())
        count += 1
    (root / "tmp").rmdir()
    return count


@dataclass(frozen=True)
class Difference:
    """A part of a key that two artifacts do not share, with what either has (`-`: nothing)."""

    part: str
    here: str
    there: str


def differences(
    here: Mapping[str, Mapping[str, str]], there: Mapping[str, Mapping[str, str]]
) -> list[Difference]:
    """The parts in which two keys, as `Key.shown` tells them, differ."""
    found: list[Difference] = []
    for group in ("made_by", "parts"):
        a, b = here.get(group, {}), there.get(group, {})
        for n in sorted({*a, *b}):
            if a.get(n) != b.get(n):
                found.append(Difference(n, a.get(n, "-"), b.get(n, "-")))
    return found


def nearest(
    shown: Mapping[str, Mapping[str, str]], kernel: str, among: Iterable[Row]
) -> Row | None:
    """The entry of the same kind and kernel whose key is most like this one: with the fewest parts
    that differ, and the most recently used of these."""

    def distance(row: Row) -> int:
        assert row.stored is not None
        return len(differences(shown, row.stored.key))

    kind = shown["made_by"].get("kind")
    whole = [r for r in among if (r.kind, r.kernel) == (kind, kernel)]
    return min(whole, key=distance, default=None)
