"""Tuned configs as a JSON document for another machine, signed by a key that both sides have.

The form is that of the service's packages: either reads what the other writes.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilec.ir.errors import TileError
from tilec.runtime.cache.key import canonical
from tilec.runtime.cache.survey import rows
from tilec.tune import strict
from tilec.tune.config import Config
from tilec.tune.job import Policy, config_key, device_digest

FORMAT, VERSION = "tilec-package", 1
ALGORITHM = "hmac-sha256"
MOST = 10_000  # configs
SHORTEST = 16  # bytes of a key
DEVICE = ("kind", "name", "cores", "sms", "memory", "features", "capability", "driver")
PROVENANCE = ("study", "trial", "worker", "device", "toolchain", "policy", "samples_ms",
              "default_ms", "date", "imported")  # fmt: skip


@dataclass(frozen=True)
class Signer:
    """A name and a secret key. Raises TileError for a key that could be guessed."""

    name: str
    key: bytes

    def __post_init__(self) -> None:
        if len(self.key) < SHORTEST:
            raise TileError(f"a key to sign with has {len(self.key)} bytes, "
                            f"expected at least {SHORTEST}")  # fmt: skip

    @staticmethod
    def of(file: Path) -> Signer:
        """The key in a file, named after the file. Raises TileError."""
        try:
            return Signer(file.stem, file.read_bytes().strip())
        except OSError as e:
            raise TileError(f"the key {file} can't be read: {e}") from None


def kept(root: Path) -> list[dict[str, Any]]:
    """The records in a cache folder, the last used first."""
    found = payloads(root, "tuned")
    return [strict.document(p.decode("utf-8", "replace"), "a tuned config") for p in found]


def payloads(root: Path, kind: str) -> list[bytes]:
    """What the entries of a kind hold in a cache folder, the last used first."""
    return [r.stored.entry.payload for r in rows(root)
            if r.stored is not None and r.stored.entry.header.get("kind") == kind]  # fmt: skip


def package(records: Iterable[Mapping[str, Any]], signer: Signer | None,
            blocked: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:  # fmt: skip
    """Records as a document, and what is blocked (`tilec.tune.blocked.exported`)."""
    document: dict[str, Any] = {
        "format": FORMAT, "version": VERSION, "created": time.time(),
        "configs": [_whole(r) for r in records], "blocklist": [dict(b) for b in blocked],
        "signature": None,
    }  # fmt: skip
    if signer is not None:
        document["signature"] = {"algorithm": ALGORITHM, "signer": signer.name,
                                 "value": signature(document, signer.key)}  # fmt: skip
    return document


def signature(document: Mapping[str, Any], key: bytes) -> str:
    """The HMAC-SHA256 over the canonical JSON of a package without its signature."""
    bare = {n: v for n, v in document.items() if n != "signature"}
    return hmac.new(key, canonical(bare).encode(), hashlib.sha256).hexdigest()


def records_of(document: object, signer: Signer | None, unsigned: bool = False
               ) -> list[dict[str, Any]]:  # fmt: skip
    """The records of a package, checked: who signed, each key, each config.

    Raises TileError for a package that another key signed, none (unless `unsigned`), or that was
    changed since.
    """
    found = strict.fields(document, "a package", ("format", "version", "configs"),
                          "created", "blocklist", "signature")  # fmt: skip
    if found["format"] != FORMAT or found["version"] != VERSION:
        raise TileError(f"this is {found['format']!r} {found['version']!r}, "
                        f"expected {FORMAT} {VERSION}")  # fmt: skip
    _check_signature(found, signer, unsigned)
    configs = strict.array(found["configs"], "configs")
    if len(configs) > MOST:
        raise TileError(f"a package has {len(configs)} configs, expected at most {MOST}")
    return [_checked(c) for c in configs]


def _check_signature(document: Mapping[str, Any], signer: Signer | None, unsigned: bool) -> None:
    said = document.get("signature")
    if said is None:
        if not unsigned:
            raise TileError("the package is not signed", hint="--unsigned takes it all the same")
        return
    signed = strict.fields(said, "a signature", ("algorithm", "signer", "value"))
    if signed["algorithm"] != ALGORITHM:
        raise TileError(f"a signature by {signed['algorithm']!r}, expected {ALGORITHM}")
    if signer is None:
        raise TileError(f"the package is signed by {signed['signer']!r}, and no key is given",
                        hint="--key FILE")  # fmt: skip
    value = strict.typed(signed["value"], str, "a signature")
    if not hmac.compare_digest(signature(document, signer.key).encode(), value.encode()):
        raise TileError("the signature does not belong to this package and key")


def _checked(record: object) -> dict[str, Any]:
    found = strict.fields(record, "a tuned config", ("key", "kernel", "config", "time_ms",
                          "provenance"), "family", "shape")  # fmt: skip
    said = strict.fields(found["provenance"], "a provenance",
                         ("device", "toolchain", "policy"), *PROVENANCE)  # fmt: skip
    device = strict.fields(said["device"], "a device", ("kind", "name"), *DEVICE)
    toolchain = strict.typed(said["toolchain"], str, "a toolchain")
    kernel = strict.typed(found["kernel"], str, "a kernel")
    policy = Policy.from_json(said["policy"])
    if config_key(kernel, device_digest(device), toolchain, policy) != found["key"]:
        raise TileError(f"the key {str(found['key'])[:12]} is not of what it names")
    Config.from_json(found["config"])
    strict.number(found["time_ms"], "a time", 0)
    return found


def _whole(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with every field that there is: what is signed must not depend on which are said."""
    said = record["provenance"]
    device = {n: said["device"].get(n) for n in DEVICE}
    whole = {n: said.get(n) for n in PROVENANCE} | {"device": device}
    return {**record, "provenance": whole}
