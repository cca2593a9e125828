"""Configs that took two workers down are never leased again: here, and where a package brings
them."""

import copy
import json

from served import CPU, TOOLCHAIN, Client, served, setup
from sqlalchemy import delete

from tilec.serve.database import Database
from tilec.serve.keys import device_digest
from tilec.serve.models import Fingerprint
from tilec.serve.tables import blocked

DEFAULT = {"bm": 16, "bn": 16, "order": "row"}
TINY = {"parameters": [{"name": "a", "values": [1, 2]}], "default": {"a": 1}}
OTHER = {**CPU, "name": "Other CPU"}


async def poisoned(c: Client, **changed) -> dict:
    """A study whose first config takes two workers down; what is blocked then."""
    made = await c.submit(budget=1, **changed)
    for worker in ("w1", "w2"):
        assert (await c.lease(worker))["trial"]["number"] == 1
        c.sweep(31)
    assert (await c.study(made["id"]))["state"] == "failed"
    return (await c.get("/v1/blocklist"))[-1]


async def states(c: Client, study: str) -> list[tuple]:
    return [(t["state"], t["configs"][0]) for t in await c.trials(study)]


def test_another_study_of_the_kernel_puts_the_config_aside(tmp_path):
    async def check(c: Client):
        found = await poisoned(c)
        made = await c.submit(budget=3)
        leased = [t["configs"][0] for t in await c.work("w3", "w4")]
        trials = await c.trials(made["id"])
        return found, leased, trials, await c.study(made["id"])

    found, leased, trials, after = served(check, tmp_path)
    device = device_digest(Fingerprint.model_validate(CPU))
    assert found == {"kernel": "12" * 32, "device": device, "toolchain": TOOLCHAIN,
                     "config": DEFAULT}  # fmt: skip
    assert DEFAULT not in leased
    assert (trials[0]["state"], trials[0]["failure"]) == ("poison", "worker_lost")
    assert (trials[0]["attempts"], trials[0]["detail"]) == (0, "it has taken two workers down "
                                                              "before")  # fmt: skip
    assert (after["state"], after["trials"]["poison"]) == ("done", 1)


def test_it_is_leased_for_another_kernel_device_or_toolchain(tmp_path):
    async def check(c: Client):
        await poisoned(c)
        first = []
        for changed, asked in (
            ({"kernel": "56" * 32}, {}),
            ({"device": {"kind": "cpu", "name": "Other*"}}, {"device": OTHER}),
            ({"toolchain": "cd" * 32}, {"toolchain": "cd" * 32}),
        ):
            await c.submit(**changed)
            first.append((await c.lease("w4", **asked))["trial"]["configs"][0])
        return first

    assert served(check, tmp_path) == [DEFAULT] * 3


def test_a_study_of_blocked_configs_only_ends_with_a_reason(tmp_path):
    async def check(c: Client):
        for config in (1, 2):
            await poisoned(c, space={**TINY, "default": {"a": config}})
        made = await c.submit(space=TINY, budget=5)
        assert await c.lease("w9") is None
        return await states(c, made["id"]), await c.study(made["id"])

    trials, after = served(check, tmp_path)
    assert trials == [("poison", {"a": 1}), ("poison", {"a": 2})]
    assert (after["state"], after["note"]) == ("failed", "no config ran")


def test_a_package_takes_the_blocklist_along(tmp_path):
    async def make(c: Client):
        await poisoned(c)
        made = await c.post("/v1/packages", {}, 201)
        return await c.get(f"/v1/packages/{made['id']}")

    async def take(c: Client):
        said = {"package": package, "unsigned": True}
        first, again = [await c.post("/v1/configs:import", said) for _ in range(2)]
        made = await c.submit(budget=2)
        await c.work("w1")
        odd = copy.deepcopy(package)
        odd["blocklist"][0]["config"] = {"bm; rm": 1}
        await c.post("/v1/configs:import", {"package": odd, "unsigned": True}, 422)
        anywhere = copy.deepcopy(package)
        anywhere["blocklist"][0] |= {"device": None, "config": {"bm": 64, "bn": 64, "order": "row"}}
        await c.post("/v1/configs:import", {"package": anywhere, "unsigned": True})
        listed = await c.get("/v1/blocklist")
        all_ = await c.submit(budget=1000)
        await c.work("w1")
        aside = [x for s, x in await states(c, all_["id"]) if s == "poison"]
        return first, again, await states(c, made["id"]), listed, aside

    package = served(make, tmp_path / "from")
    first, again, trials, listed, aside = served(take, tmp_path / "to")
    assert (first["blocked"], again["blocked"]) == (1, 0)
    assert trials[0] == ("poison", DEFAULT)
    assert [b["device"] is None for b in listed] == [False, True]
    assert {json.dumps(x) for x in aside} == {json.dumps(b["config"]) for b in listed}


def test_a_blocklist_is_of_its_tenant(tmp_path):
    async def check(c: Client):
        ours, theirs = c.token("admin"), c.token("admin", tenant="other")
        await poisoned(ours)
        assert await theirs.get("/v1/blocklist") == []
        await theirs.submit()
        return (await theirs.lease("w1"))["trial"]["configs"][0]

    assert served(check, tmp_path, anonymous=False) == DEFAULT


def test_an_older_database_keeps_its_poison(tmp_path):
    """The migration blocks what was poison before there was a blocklist."""

    async def make(c: Client):
        return [await poisoned(c), await poisoned(c, kernel="56" * 32)]

    async def listed(c: Client):
        return await c.get("/v1/blocklist")

    before = served(make, tmp_path)
    database = Database(setup(tmp_path).database)
    database.write(lambda tx: tx.execute(delete(blocked)))
    database.migrate("0002")
    database.migrate()
    database.close()
    assert served(listed, tmp_path) == before
