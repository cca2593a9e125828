"""Tuned configs as JSON documents that another host takes over, signed with a shared key."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select

from tilec.ir.errors import TileError
from tilec.serve import models
from tilec.serve.keys import canonical, config_key, device_digest
from tilec.serve.progress import store
from tilec.serve.refusal import Refused
from tilec.serve.setup import Setup
from tilec.serve.tables import configs, packages, studies, trials
from tilec.tune.config import Config

MOST = 10_000  # configs of a package


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
    document: dict[str, Any] = {
        "format": "tilec-package", "version": 1, "created": day,
        "configs": _published(tx, tenant, said),
        "blocklist": [b.model_dump() for b in blocklist(tx, tenant)], "signature": None,
    }  # fmt: skip
    if setup.signer:
        value = signature(document, setup.keys[setup.signer])
        document["signature"] = {"algorithm": "hmac-sha256", "signer": setup.signer, "value": value}
    text = canonical(document)
    id_ = sha256(text)
    tx.execute(delete(packages).where(packages.c.tenant == tenant, packages.c.id == id_))
    tx.execute(insert(packages).values(tenant=tenant, id=id_, document=text, created=day))
    return models.PackageMade(id=id_, configs=len(document["configs"]), signer=setup.signer)


def _published(tx: Connection, tenant: str, said: models.PackageRequest) -> list[dict[str, Any]]:
    chosen = select(configs.c.published).where(configs.c.tenant == tenant)
    if said.studies or said.kernels:
        chosen = chosen.where(or_(configs.c.study.in_(said.studies),
                                  configs.c.kernel.in_(said.kernels)))  # fmt: skip
    rows = tx.execute(chosen.order_by(configs.c.key).limit(MOST + 1)).scalars().all()
    if len(rows) > MOST:
        raise Refused(422, f"a package has at most {MOST} configs: choose studies or kernels")
    return [json.loads(r) for r in rows]


def blocklist(tx: Connection, tenant: str) -> list[models.Blocked]:
    """The configs that took two workers down."""
    said = select(studies.c.kernel, studies.c.toolchain, studies.c.measured_device,
                  trials.c.configs).join(studies, studies.c.id == trials.c.study)  # fmt: skip
    mine = said.where(studies.c.tenant == tenant, trials.c.state == "poison",
                      trials.c.purpose == "measure")  # fmt: skip
    rows = tx.execute(mine.order_by(studies.c.kernel, trials.c.id).limit(MOST))
    return [models.Blocked(kernel=r.kernel, device=r.measured_device, toolchain=r.toolchain,
                           config=json.loads(r.configs)[0]) for r in rows]  # fmt: skip


def listed(tx: Connection, tenant: str) -> list[models.PackageListed]:
    """The packages of a tenant, the newest first."""
    size = func.length(packages.c.document)
    chosen = select(packages.c.id, size, packages.c.created).where(packages.c.tenant == tenant)
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
    return models.Imported(imported=count, kept=len(said.package.configs) - count)


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
    try:
        Config.from_json(c.config)
    except TileError as e:
        raise Refused(422, e.message, "configs") from None
