import asyncio
import copy
import json

import pytest
from served import Client, client, served, setup

from tilec.ir.errors import TileError
from tilec.runtime.cache.key import digest
from tilec.serve import keys, models, packages
from tilec.serve.server import private_key, signed_by
from tilec.serve.setup import Limits
from tilec.tune import job

KEY, OTHER = b"k" * 32, b"o" * 32
SIGNED = {"keys": {"site": KEY}, "signer": "site"}


async def published(c: Client, **changed) -> dict:
    """A winner."""
    made = await c.submit(**changed)
    await c.work()
    return (await c.study(made["id"]))["winner"]


async def packed(c: Client) -> dict:
    made = await c.post("/v1/packages", {}, 201)
    return await c.get(f"/v1/packages/{made['id']}")


def resigned(package: dict, key: bytes = KEY) -> dict:
    """The package signed again, as one who has the key can."""
    value = packages.signature(package, key)
    return {**package, "signature": {"algorithm": "hmac-sha256", "signer": "site", "value": value}}


@pytest.fixture
def package(tmp_path):
    async def check(c: Client):
        await published(c)
        return await packed(c)

    return served(check, tmp_path / "from", **SIGNED)


def test_the_keys_of_configs_are_those_of_the_client():
    device = {"kind": "cpu", "name": "x", "cores": 4, "features": ["a"], "driver": None}
    here = keys.device_digest(models.Fingerprint.model_validate(device))
    assert here == job.device_digest(device)
    policy = models.Policy(mode="graph", cache="cold", threads=3)
    there = job.config_key("ab" * 32, here, "cd" * 32, job.Policy("graph", "cold", 3))
    assert keys.config_key("ab" * 32, here, "cd" * 32, policy) == there


def test_configs_are_looked_up_together_and_carry_a_tag(tmp_path):
    async def check(c: Client):
        won = await published(c)
        key = {"kernel": won["kernel"], "toolchain": won["provenance"]["toolchain"],
               "device": digest({k: v for k, v in won["provenance"]["device"].items()
                                      if v is not None})}  # fmt: skip
        wrong = [{**key, n: "00" * 32} for n in ("kernel", "device", "toolchain")]
        policies = [{**key, "policy": {"mode": "graph"}}, {**key, "policy": {"threads": 7}}]
        found = await c.post("/v1/configs:lookup", {"keys": [*wrong, key, *policies]})
        first = await c.get(f"/v1/configs/{won['key']}", None)
        tag = first.headers["etag"]
        again = await c.get(f"/v1/configs/{won['key']}", None, If_None_Match=tag)
        other = await c.get(f"/v1/configs/{won['key']}", None, If_None_Match='"x"')
        many = await c.post("/v1/configs:lookup", {"keys": [key] * 257}, None)
        return won, found, again, other, many

    won, found, again, other, many = served(check, tmp_path)
    assert found == [None, None, None, won, None, None]
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200
    assert many.status_code == 422


def test_a_package_is_taken_over_once(tmp_path, package):
    async def check(c: Client):
        first = await c.post("/v1/configs:import", {"package": package})
        again = await c.post("/v1/configs:import", {"package": package})
        return first, again, await c.get(f"/v1/configs/{package['configs'][0]['key']}")

    first, again, found = served(check, tmp_path / "to", **SIGNED)
    assert first == {"imported": 1, "kept": 0, "blocked": 0}
    assert again == {"imported": 0, "kept": 1, "blocked": 0}
    assert found["provenance"].pop("imported") == "site"
    package["configs"][0]["provenance"].pop("imported")
    assert found == package["configs"][0]


def test_what_was_signed_can_not_be_changed(tmp_path, package):
    """TUNING.md 3.6, 21: signature missing, wrong key, stripped, downgraded, anything changed."""
    slower = copy.deepcopy(package)
    slower["configs"][0]["config"]["bm"] = 16
    none = {**package, "signature": None}
    missing = {n: v for n, v in package.items() if n != "signature"}
    signature = package["signature"]
    wrong = {
        "none": none, "missing": missing, "changed": slower,
        "another key": resigned(package, OTHER),
        "another signer": {**package, "signature": {**signature, "signer": "nobody"}},
        "no hash": {**package, "signature": {**signature, "algorithm": "none"}},
        "sha1": {**package, "signature": {**signature, "algorithm": "hmac-sha1"}},
        "cut": {**package, "signature": {**signature, "value": signature["value"][:-1]}},
        "empty": {**package, "signature": {**signature, "value": ""}},
        "version": {**package, "version": 0},
        "later": {**package, "version": 2},
        "format": {**package, "format": "zip"},
        "more": {**package, "files": ["../../x"]},
        "created": {**package, "created": package["created"] + 1},
        "fewer": {**package, "configs": []},
    }  # fmt: skip

    async def check(c: Client):
        for name, document in wrong.items():
            found = await c.post("/v1/configs:import", {"package": document}, None)
            assert found.status_code == 422, name
            await c.get(f"/v1/configs/{package['configs'][0]['key']}", 404)
        unsigned = await c.post("/v1/configs:import", {"package": none, "unsigned": True})
        return unsigned, await c.get(f"/v1/configs/{package['configs'][0]['key']}")

    unsigned, found = served(check, tmp_path / "to", **SIGNED)
    assert unsigned["imported"] == 1
    assert found["provenance"]["imported"] == "unsigned"


def test_even_a_signed_package_is_checked(tmp_path, package):
    """TUNING.md 3.6, 19 and 20: keys that are not of what they name, odd names, other fields."""
    changes = [("key", "0" * 64), ("config", {"bm; rm": 1}), ("config", {"bm": "a b"}),
               ("config", {"bm": {"ir_override": "x"}}), ("ir_override", "x"), ("time_ms", 0.0),
               ("time_ms", -1.0), ("kernel", "../x"), ("shape", {"M N": 1})]  # fmt: skip
    said = {"worker": "x" * 201, "study": "a\nb", "samples_ms": [1.0] * 1001, "date": 1e300,
            "toolchain": "<script>", "default_ms": -1.0}  # fmt: skip
    provenance = package["configs"][0]["provenance"]
    changes += [("provenance", {**provenance, n: v}) for n, v in said.items()]

    async def check(c: Client):
        for name, value in changes:
            document = copy.deepcopy(package)
            document["configs"][0][name] = value
            found = await c.post("/v1/configs:import", {"package": resigned(document)}, None)
            assert found.status_code == 422, name
            assert "configs" in found.json()["error"]["where"]
        await c.post("/v1/configs:import", {"package": resigned(package)})

    served(check, tmp_path / "to", **SIGNED)


def test_an_older_package_does_not_replace_what_is_here(tmp_path, package):
    async def check(c: Client):
        own = await published(c, budget=1000)
        old = copy.deepcopy(package)
        old["configs"][0]["provenance"]["date"] -= 1000
        kept = await c.post("/v1/configs:import", {"package": resigned(old)})
        same = await c.get(f"/v1/configs/{own['key']}")
        new = copy.deepcopy(package)
        new["configs"][0]["provenance"]["date"] += 1000
        return kept, same == own, await c.post("/v1/configs:import", {"package": resigned(new)})

    kept, same, new = served(check, tmp_path / "to", **SIGNED)
    assert (kept["imported"], kept["kept"]) == (0, 1)
    assert same
    assert (new["imported"], new["kept"]) == (1, 0)


def test_a_package_is_of_the_studies_or_kernels_that_are_named(tmp_path):
    async def check(c: Client):
        one = await published(c)
        two = await published(c, kernel="56" * 32)
        sizes = []
        for said in ({}, {"kernels": [two["kernel"]]}, {"kernels": ["00" * 32]},
                     {"studies": [one["provenance"]["study"]]}):  # fmt: skip
            sizes.append((await c.post("/v1/packages", said, 201))["configs"])
        await c.get("/v1/packages/" + "0" * 64, 404)
        return sizes

    assert served(check, tmp_path) == [2, 1, 0, 1]


def test_a_package_is_no_larger_than_another_service_takes(tmp_path):
    async def check(c: Client):
        for i in range(4):
            await published(c, kernel=f"{i:02d}" * 32, budget=1)
        refused = await c.post("/v1/packages", {}, 422)
        made = await c.post("/v1/packages", {"kernels": ["01" * 32]}, 201)
        (listed,) = await c.get("/v1/packages")
        whole = await c.get(f"/v1/packages/{made['id']}", None)
        body = {"package": whole.json()}
        taken = await c.post("/v1/configs:import", {**body, "unsigned": True})
        return refused, made["configs"], listed["size"] == len(whole.content), taken["kept"]

    limits = Limits(body=3000)
    refused, configs, same, kept = served(check, tmp_path, limits=limits)
    assert "choose studies or kernels" in refused["error"]["message"]
    assert (configs, same, kept) == (1, True, 1)


def test_a_package_outlives_a_restart_byte_for_byte(tmp_path):
    async def make():
        async with client(setup(tmp_path, **SIGNED)) as c:
            await published(c)
            made = await c.post("/v1/packages", {}, 201)
            return made["id"], (await c.get(f"/v1/packages/{made['id']}", None)).content

    async def read(id_: str):
        async with client(setup(tmp_path)) as c:
            return (await c.get(f"/v1/packages/{id_}", None)).content

    id_, before = asyncio.run(make())
    assert asyncio.run(read(id_)) == before
    document = json.loads(before)
    assert packages.signature(document, KEY) == document["signature"]["value"]


def test_keys_are_files_that_nobody_else_can_read(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    path.chmod(0o600)
    assert private_key(path) == KEY
    assert signed_by(setup(tmp_path), {"site": path}, "site").keys == {"site": KEY}
    link = tmp_path / "link"
    link.symlink_to(path)
    short = tmp_path / "short"
    short.write_bytes(b"k" * 31)
    short.chmod(0o600)
    open_ = tmp_path / "open"
    open_.write_bytes(KEY)
    open_.chmod(0o644)
    for wrong in (link, short, open_, tmp_path / "none", tmp_path):
        with pytest.raises(TileError, match="key"):
            private_key(wrong)
    with pytest.raises(TileError, match="no key of the signer"):
        signed_by(setup(tmp_path), {}, "site")
