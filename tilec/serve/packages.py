"""Tuned configs as JSON documents that another host takes over, signed with a shared key."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select

from tilec.ir.errors import TileError
from tilec.runtime.cache.key import canonical
from tilec.serve import blocklist, models
from tilec.serve.keys import config_key, device_digest
from tilec.serve.progress import store
from tilec.serve.refusal import Refused
from tilec.serve.setup import Setup
from tilec.serve.tables import configs, packages
from tilec.tune.config import Config

TOO_LARGE = "this is more than another service would take over: choose studies or kernels"


def signature(document: dict[str, Any], key: bytes) -> str:
    """The HMAC-SHA256 over the canonical JSON of a package without its signature."""
    bare = {n: v for n, v in document.items() if n != "signature"}
    return hmac.new(key, canonical(bare).encode(), hashlib.sha256).hexdigest()


def sha256(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def made(tx: Connection, tenant: str, said: models.PackageRequest, day: float,
         setup: Setup) -> models.PackageMade:  # fmt: skip
    """Bundle published configs, and sign them if there is a key to sign by."""
    count = select(func.count()).select_from(packages).where(packages.c.tenant == tenant)
    if tx.execute(count).scalar_one() >= setup.limits.packages:
        raise Refused(429, f"there are {setup.limits.packages} packages already")
    most = setup.limits.body * 3 // 4  # others write JSON with blanks
    document: dict[str, Any] = {
        "format": "tilec-package", "version": 1, "created": day,
        "configs": _published(tx, tenant, said, most),
        "blocklist": [b.model_dump() for b in blocklist.listed(tx, tenant)], "signature": None,
    }  # fmt: skip
    if setup.signer:
        value = signature(document, setup.keys[setup.signer])
        document["signature"] = {"algorithm": "hmac-sha256", "signer": setup.signer, "value": value}
    text = canonical(document)
    if len(text) > most:
        raise Refused(422, TOO_LARGE)
    id_ = sha256(text)
    tx.execute(delete(packages).where(packages.c.tenant == tenant, packages.c.id == id_))
    tx.execute(insert(packages).values(tenant=tenant, id=id_, document=text, size=len(text),
                                       created=day))  # fmt: skip
    return models.PackageMade(id=id_, configs=len(document["configs"]), signer=setup.signer)


def _published(tx: Connection, tenant: str, said: models.PackageRequest,
               most: int) -> list[dict[str, Any]]:  # fmt: skip
    chosen = select(configs.c.published).where(configs.c.tenant == tenant)
    if said.studies or said.kernels:
        chosen = chosen.where(or_(configs.c.study.in_(said.studies),
                                  configs.c.kernel.in_(said.kernels)))  # fmt: skip
    found: list[dict[str, Any]] = []
    size = 0
    for text in tx.execute(chosen.order_by(configs.c.key)).scalars():
        size += len(text)
        if size > most:
            raise Refused(422, TOO_LARGE)
        found.append(json.loads(text))
    return found


def listed(tx: Connection, tenant: str) -> list[models.PackageListed]:
    """The packages of a tenant, the newest first."""
    shown = select(packages.c.id, packages.c.size, packages.c.created)
    chosen = shown.where(packages.c.tenant == tenant)
    rows = tx.execute(chosen.order_by(packages.c.created.desc(), packages.c.id))
    return [models.PackageListed(id=i, size=n, created=c) for i, n, c in rows]


def document(tx: Connection, tenant: str, id_: str) -> str:
    """The JSON of a package. Raises Refused."""
    chosen = select(packages.c.document).where(packages.c.tenant == tenant, packages.c.id == id_)
    found = tx.execute(chosen).scalar()
    if found is None:
        raise Refused(404, "there is no such package")
    return found


def imported(tx: Connection, tenant: str, said: models.ImportRequest, day: float,
             setup: Setup) -> models.Imported:  # fmt: skip
    """Take over the configs of a package, except where a newer one is here. Raises Refused."""
    signer = _checked(said, setup)
    count = 0
    for c in said.package.configs:
        _check(c)
        there = select(configs.c.published).where(
            configs.c.tenant == tenant, configs.c.key == c.key)  # fmt: skip
        here = tx.execute(there).scalar()
        if here is not None and json.loads(here)["provenance"]["date"] >= c.provenance.date:
            continue
        found = c.model_dump()
        found["provenance"]["imported"] = signer
        store(tx, tenant, models.Published.model_validate(found), None, day)
        count += 1
    blocked = sum(_block(tx, tenant, b, day) for b in said.package.blocklist)
    return models.Imported(imported=count, kept=len(said.package.configs) - count,
                           blocked=blocked)  # fmt: skip


def _block(tx: Connection, tenant: str, found: models.Blocked, day: float) -> bool:
    _checked_config(found.config, "blocklist")
    return blocklist.add(tx, tenant, found, day)


def _checked(said: models.ImportRequest, setup: Setup) -> str:
    """Who signed. Raises Refused for a package that is not as its signer made it."""
    signed = said.package.signature
    if signed is None:
        if not said.unsigned:
            raise Refused(422, "the package is not signed", "signature")
        return "unsigned"
    key = setup.keys.get(signed.signer)
    if key is None:
        raise Refused(422, "no key of this signer is here", "signature")
    right = signature(said.package.model_dump(), key)
    if not hmac.compare_digest(right, signed.value):
        raise Refused(422, "the signature does not belong to this package", "signature")
    return signed.signer


def _check(c: models.PackagedConfig) -> None:
    """Raises Refused for a config under a key that is not its own, or with odd names or values."""
    p = c.provenance
    if config_key(c.kernel, device_digest(p.device), p.toolchain, p.policy) != c.key:
        raise Refused(422, f"the key {c.key[:12]} is not of what it names", "configs")
    _checked_config(c.config, "configs")


def _checked_config(config: dict[str, Any], where: str) -> None:
    try:
        Config.from_json(config)
    except TileError as e:
        raise Refused(422, e.message, where) from None
