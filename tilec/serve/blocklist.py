"""Configs that took two workers down, here or where a package comes from: kept for good, and never
leased again on such a device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, exists, insert, select

from tilec.runtime.cache.key import canonical, digest
from tilec.serve import models
from tilec.serve.tables import blocked

MOST = 10_000  # that are shown
ANY = ""  # device


def add(tx: Connection, tenant: str, found: models.Blocked, day: float) -> bool:
    """Block a config; whether it was not blocked yet."""
    key = {"tenant": tenant, "kernel": found.kernel, "device": found.device or ANY,
           "toolchain": found.toolchain, "config_digest": digest(found.config)}  # fmt: skip
    here = select(exists().where(*(blocked.c[n] == v for n, v in key.items())))
    if tx.execute(here).scalar_one():
        return False
    tx.execute(insert(blocked).values(**key, config=canonical(found.config), created=day))
    return True


def has(tx: Connection, study: Row[Any], device: str, config: Mapping[str, Any]) -> bool:
    """Whether a config is blocked for the kernel of a study on a device."""
    here = exists().where(
        blocked.c.tenant == study.tenant, blocked.c.kernel == study.kernel,
        blocked.c.device.in_((device, ANY)), blocked.c.toolchain == study.toolchain,
        blocked.c.config_digest == digest(dict(config)))  # fmt: skip
    return bool(tx.execute(select(here)).scalar_one())


def listed(tx: Connection, tenant: str) -> list[models.Blocked]:
    """What a tenant has blocked, by kernel and then by age."""
    chosen = select(blocked).where(blocked.c.tenant == tenant)
    order = chosen.order_by(blocked.c.kernel, blocked.c.created, blocked.c.config_digest)
    return [models.Blocked(kernel=r.kernel, device=r.device or None, toolchain=r.toolchain,
                           config=json.loads(r.config))
            for r in tx.execute(order.limit(MOST))]  # fmt: skip
