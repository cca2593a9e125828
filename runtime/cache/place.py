"""Where the cache is: what the environment says, and what lies where."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from tilec.observe import fell_back
from tilec.runtime.cache.flight import lock_folder
from tilec.runtime.cache.store import PACKAGED, Cache
from tilec.runtime.cache.sweep import Bounds
from tilec.runtime.cache.trust import private, trusted

# statfs(2), linux/magic.h and the headers of the file systems
NETWORK = {
    0x6969: "NFS", 0x517B: "SMB", 0xFE534D42: "SMB", 0xFF534D42: "CIFS", 0x0BD00BD0: "Lustre",
    0x47504653: "GPFS", 0x00C36400: "Ceph", 0x5346414F: "AFS", 0x19830326: "BeeGFS",
    0xAAD7AAEA: "PanFS", 0x20030528: "OrangeFS", 0x01161970: "GFS2", 0x7461636F: "OCFS2",
    0x18031977: "WekaFS",
}  # fmt: skip
_STATFS_BYTES = 256  # more than any system's structure


def default_directory(environment: Mapping[str, str]) -> Path:
    """Where the cache should be: $TILEC_CACHE_DIR, else tilec in the XDG cache directory."""
    chosen = environment.get("TILEC_CACHE_DIR", "")
    if chosen:
        return Path(chosen)
    # The XDG rules say that a relative path is to be ignored.
    xdg = Path(environment.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():
        return xdg / "tilec"
    try:
        return Path(environment.get("HOME") or "~").expanduser() / ".cache" / "tilec"
    except RuntimeError:  # a user without a home
        return local_directory()


def local_directory() -> Path:
    """A place on this machine that outlives a restart: for a home on a network, or none."""
    return Path("/var/tmp", f"tilec-{os.geteuid()}")


def layers(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Folders that are only read, as `tilec cache pack` writes them: those of $TILEC_SITE_CACHE,
    separated as in PATH, and the one that comes with this package, if any."""
    sites = [Path(p) for p in environment.get("TILEC_SITE_CACHE", "").split(os.pathsep) if p]
    return tuple(p for p in (*sites, PACKAGED) if os.path.isdir(p))


def network(path: Path) -> str:
    """The kind of network file system that a path is or would be on; empty for none."""
    there = path.absolute()
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    found = (ctypes.c_long * (_STATFS_BYTES // 8))()
    try:
        if ctypes.CDLL(None).statfs(os.fsencode(there), found):
            return ""
    except (AttributeError, OSError):
        return ""
    return NETWORK.get(found[0] & 0xFFFFFFFF, "")


def open_cache(environment: Mapping[str, str], bounds: Bounds | None = None) -> Cache:
    """The cache that an environment asks for.

    One line is printed (a RuntimeWarning) where it is elsewhere: the default place is on a network,
    or others can write there.
    """
    wanted = default_directory(environment)
    kind = network(wanted)
    if kind and not environment.get("TILEC_CACHE_DIR"):
        said = f"{wanted} is on {kind}: compiled kernels are kept in {local_directory()}; " \
               "TILEC_CACHE_DIR chooses another place"  # fmt: skip
        fell_back("cache place", said, "cache")
        warnings.warn(said, RuntimeWarning, stacklevel=2)
        wanted, kind = local_directory(), ""
    usable = _usable(wanted)
    below = layers(environment)
    if usable != wanted and _readable(wanted):
        below = (wanted, *below)
    return Cache(
        usable,
        layers=below,
        bounds=bounds or Bounds.of(environment),
        locks=lock_folder(environment),
        network=bool(kind and usable == wanted),
    )


def _usable(wanted: Path) -> Path:
    """The directory, or one on this machine where it can't be ours."""
    instead = local_directory()
    try:
        if not os.access(private(wanted), os.W_OK):
            raise PermissionError(f"{wanted} can't be written")
    except OSError as e:
        try:
            private(instead)
        except OSError:
            return wanted  # the cache itself will say what is wrong with it
        said = f"no cache in {wanted}: {e}; compiled kernels are kept in {instead}"
        fell_back("cache place", said, "cache")
        warnings.warn(said, RuntimeWarning, stacklevel=3)
        return instead
    return wanted


def _readable(path: Path) -> bool:
    """Whether a directory that can't be written may still be read."""
    try:
        return bool(trusted(path))
    except OSError:
        return False
