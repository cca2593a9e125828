"""/v1/configs, /v1/packages, /v1/blocklist: what tuning found, looked up and carried elsewhere."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Header, Response
from sqlalchemy import select

from tilec.serve import blocklist, deletion, models, packages
from tilec.serve.keys import config_key
from tilec.serve.refusal import DOCUMENTED, Refused
from tilec.serve.routes.asked import Admin, Digest, Once, Reader, Served, Submitter
from tilec.serve.tables import configs

router = APIRouter(prefix="/v1", tags=["configs"], responses=DOCUMENTED)
Known = Annotated[str | None, Header(alias="If-None-Match", max_length=200)]


@router.post("/configs:lookup")
def lookup(said: models.Lookup, who: Reader, service: Served) -> list[models.Published | None]:
    """Look configs up, in the order of the keys; null for what was not tuned."""
    names = [config_key(k.kernel, k.device, k.toolchain, k.policy) for k in said.keys]
    chosen = select(configs.c.key, configs.c.published).where(
        configs.c.tenant == who.tenant, configs.c.key.in_(set(names)))  # fmt: skip
    with service.database.read() as tx:
        found = {k: models.Published.model_validate(json.loads(p)) for k, p in tx.execute(chosen)}
    service.metrics.lookups.labels("hit").inc(sum(n in found for n in names))
    service.metrics.lookups.labels("miss").inc(sum(n not in found for n in names))
    return [found.get(n) for n in names]


@router.get("/configs/{key}", response_model=models.Published,
            responses={304: {"description": "unchanged"}})  # fmt: skip
def read(key: Digest, who: Reader, service: Served, known: Known = None) -> Response:
    """A config by its key, with an ETag."""
    chosen = select(configs.c.published).where(configs.c.tenant == who.tenant, configs.c.key == key)
    with service.database.read() as tx:
        found = tx.execute(chosen).scalar()
    if found is None:
        raise Refused(404, "there is no such config")
    return tagged(found, known)


def tagged(text: str, known: str | None) -> Response:
    """A JSON text with its ETag, or 304 for a client that has it."""
    tag = f'"{packages.sha256(text)}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if known is not None and tag in (t.strip().removeprefix("W/") for t in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(text, media_type="application/json", headers=headers)


@router.post("/packages", status_code=201)
def package(said: models.PackageRequest, who: Submitter, service: Served,
            key: Once = None) -> models.PackageMade:  # fmt: skip
    """Bundle tuned configs for other hosts."""
    day, request = service.clock.day(), {"package": said.model_dump()}
    return service.once(who.tenant, key, request, models.PackageMade, lambda tx: packages.made(
        tx, who.tenant, said, day, service.setup))  # fmt: skip


@router.get("/packages")
def list_packages(who: Reader, service: Served) -> list[models.PackageListed]:
    """The packages of the caller's tenant, the newest first."""
    with service.database.read() as tx:
        return packages.listed(tx, who.tenant)


@router.get("/packages/{package}", response_model=models.Package,
            responses={304: {"description": "unchanged"}})  # fmt: skip
def read_package(package: Digest, who: Reader, service: Served, known: Known = None) -> Response:
    """A package, byte for byte as it was signed."""
    with service.database.read() as tx:
        return tagged(packages.document(tx, who.tenant, package), known)


@router.delete("/packages/{package}", status_code=204)
def delete_package(package: Digest, who: Admin, service: Served, key: Once = None) -> Response:
    """Delete a package. What others took over from it stays with them."""
    day = service.clock.day()
    service.gone_once(who.tenant, key, package, lambda tx: deletion.package(tx, who, package, day))
    return Response(status_code=204)


@router.post("/configs:import")
def take_over(said: models.ImportRequest, who: Admin, service: Served,
              key: Once = None) -> models.Imported:  # fmt: skip
    """Take over the configs of a package. Its signature is checked."""
    day, request = service.clock.day(), {"import": said.model_dump()}
    return service.once(who.tenant, key, request, models.Imported, lambda tx: packages.imported(
        tx, who.tenant, said, day, service.setup))  # fmt: skip


@router.get("/blocklist")
def blocked(who: Reader, service: Served) -> list[models.Blocked]:
    """The configs that took two workers down."""
    with service.database.read() as tx:
        return blocklist.listed(tx, who.tenant)
