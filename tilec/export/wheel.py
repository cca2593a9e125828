"""A folder of a kernel as a wheel (PyPA's binary distribution format, PEP 427), byte for byte the
same each time."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from io import BytesIO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from tilec.ir.errors import TileError

NAME = re.compile(r"([A-Za-z][A-Za-z0-9_]*)-([0-9][A-Za-z0-9.+!]*)")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can say


def wheel(said: str, files: Mapping[str, bytes], platform: str = "any") -> tuple[str, bytes]:
    """A wheel that is called NAME-VERSION, whose package NAME has the files: its file's name, and
    its bytes. Raises TileError for a name that is none."""
    match = NAME.fullmatch(said)
    if match is None:
        raise TileError(f"a wheel: {said!r} is not NAME-VERSION", hint="linear_4096-1.0")
    name, version = match.groups()
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    pure = "true" if platform == "any" else "false"
    tag = f"py3-none-{platform}"
    how = f"Wheel-Version: 1.0\nGenerator: tilec\nRoot-Is-Purelib: {pure}\nTag: {tag}\n"
    whole = {f"{name}/{n}": data for n, data in files.items()}
    whole |= {f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": how.encode()}
    rows = [f"{n},sha256={_digest(data)},{len(data)}" for n, data in whole.items()]
    whole[f"{info}/RECORD"] = ("\n".join([*rows, f"{info}/RECORD,,"]) + "\n").encode()
    return f"{name}-{version}-{tag}.whl", _zipped(whole)


def _digest(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def _zipped(files: Mapping[str, bytes]) -> bytes:
    room = BytesIO()
    with ZipFile(room, "w", ZIP_STORED) as archive:  # as compression is not the same everywhere
        for name, data in files.items():
            entry = ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, wherever it is made
            archive.writestr(entry, data)
    return room.getvalue()
