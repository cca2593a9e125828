import asyncio

from served import CPU, Client, asks, client, done, served, setup, study

from tilec.serve import fleet
from tilec.serve.tables import leases, studies
from tilec.tune.records import Failure

FINAL = [f.value for f in Failure if not f.retried]


def test_a_heartbeat_holds_a_lease_and_silence_loses_it(tmp_path):
    async def check(c: Client):
        await c.submit()
        lease = await c.lease("w1")
        path = f"/v1/leases/{lease['lease']}"
        beats = []
        for _ in range(4):
            beats.append(
                (c.sweep(20), await c.post(f"{path}:heartbeat", {"token": lease["token"]}))
            )
        ended = c.sweep(31)
        again = await c.lease("w2")
        late = [await c.complete(lease, 409), await c.fail(lease, "infra", 409),
                await c.post(f"{path}:heartbeat", {"token": lease["token"]}, 409)]  # fmt: skip
        await c.complete(again)
        return lease, beats, ended, again, late

    lease, beats, ended, again, late = served(check, tmp_path)
    assert all(n == 0 and b == {"deadline_s": 30.0, "cancelled": False} for n, b in beats)
    assert ended == 1
    assert again["trial"]["id"] == lease["trial"]["id"]
    assert again["token"] > lease["token"]
    assert again["trial"]["attempts"] == 2
    assert [x["error"]["code"] for x in late] == ["late"] * 3


def test_late_evidence_is_kept_once_and_changes_nothing(tmp_path):
    async def check(c: Client):
        made = await c.submit()
        lease = await c.lease("w1")
        c.sweep(31)
        again = await c.lease("w2")
        await c.complete(again)
        before = await c.trials(made["id"])
        await c.complete(lease, 409, samples_ms=[[1e-6]])
        await c.complete(lease, 409, samples_ms=[[2e-6]])
        with c.service.database.read() as tx:
            kept = [r.late for r in tx.execute(leases.select().order_by(leases.c.token))]
        return before, await c.trials(made["id"]), kept

    before, after, kept = served(check, tmp_path)
    assert before == after
    assert "1e-06" in kept[0]
    assert kept[1] is None


def test_another_token_is_refused(tmp_path):
    """TUNING.md 3.6, 34: a stale or guessed fencing token."""

    async def check(c: Client):
        await c.submit()
        first = await c.lease()
        await c.complete(first)
        lease = await c.lease()
        for wrong in (-1, 1, 1000):
            other = {**lease, "token": lease["token"] + wrong}
            await c.complete(other, 409)
            await c.fail(other, "infra", 409)
        await c.complete(lease)

    served(check, tmp_path)


def test_a_completion_counts_once(tmp_path):
    async def check(c: Client):
        made = await c.submit()
        lease = await c.lease()
        path = f"/v1/leases/{lease['lease']}:complete"
        first = await c.post(path, done(lease), Idempotency_Key="k1")
        again = await c.post(path, done(lease), Idempotency_Key="k1")
        other = await c.post(path, done(lease, cost_s=9.0), 422, Idempotency_Key="k1")
        replayed = await c.complete(lease, 409, samples_ms=[[0.001]])
        return first, again, other, replayed, await c.trials(made["id"])

    first, again, other, replayed, trials = served(check, tmp_path)
    assert first == again
    assert other["error"]["where"] == "Idempotency-Key"
    assert replayed["error"]["code"] == "late"
    assert len(trials) == 1
    assert trials[0]["samples_ms"] != [[0.001]]


def test_a_claim_that_is_sent_again_gets_the_same_trial(tmp_path):
    async def check(c: Client):
        await c.submit()
        first, again = [
            await c.post("/v1/leases", asks(), Idempotency_Key="claim-1") for _ in range(2)
        ]
        other = await c.post("/v1/leases", asks(), Idempotency_Key="claim-2")
        made = [await c.post("/v1/studies", study(), 201, Idempotency_Key="s") for _ in range(2)]
        return first, again, other, made

    first, again, other, made = served(check, tmp_path)
    assert first == again
    assert other["trial"]["id"] != first["trial"]["id"]
    assert made[0]["id"] == made[1]["id"]


def test_a_failure_that_says_something_is_final(tmp_path):
    async def check(c: Client):
        made = await c.submit(budget=len(FINAL) + 1)
        for failure in FINAL:
            await c.fail(await c.lease(), failure)
        await c.work()
        return await c.trials(made["id"]), await c.study(made["id"])

    trials, after = served(check, tmp_path)
    assert [t["failure"] for t in trials] == [*FINAL, None, None]
    assert all((t["state"], t["attempts"]) == ("failed", 1) for t in trials[: len(FINAL)])
    assert after["state"] == "done"
    assert after["winner"]["config"] == trials[-2]["configs"][0]


def test_a_trial_that_loses_two_workers_is_poison(tmp_path):
    async def check(c: Client):
        made = await c.submit(budget=2)
        first = await c.lease("w1")
        c.sweep(31)
        second = await c.lease("w2")
        c.sweep(31)
        await c.work("w3")
        return first, second, await c.trials(made["id"]), await c.get("/v1/blocklist")

    first, second, trials, blocked = served(check, tmp_path)
    assert first["trial"]["id"] == second["trial"]["id"] == trials[0]["id"]
    assert (trials[0]["state"], trials[0]["attempts"]) == ("poison", 2)
    assert [b["config"] for b in blocked] == [trials[0]["configs"][0]]
    assert trials[1]["configs"] != trials[0]["configs"]


def test_what_the_infrastructure_spoils_is_tried_again_some_times(tmp_path):
    async def check(c: Client):
        made = await c.submit(budget=1)
        states = []
        for _ in range(5):
            c.ticks.ahead += 10
            states.append((await c.fail(await c.lease(), "infra"))["state"])
        return states, await c.study(made["id"])

    states, after = served(check, tmp_path)
    assert states == ["pending"] * 4 + ["failed"]
    assert (after["state"], after["note"]) == ("failed", "no config ran")


def test_a_restart_keeps_leases_and_the_time_that_they_have_left(tmp_path):
    """The server was down for a day by the wall clock: nobody loses a lease by that."""

    async def before():
        async with client(setup(tmp_path)) as c:
            await c.submit()
            lease = await c.lease()
            c.sweep(20)
            return lease

    async def after(lease: dict):
        async with client(setup(tmp_path)) as c:
            held = c.sweep(5)
            await c.complete(lease)
            other = await c.lease()
            return held, other, c.sweep(31)

    lease = asyncio.run(before())
    held, other, ended = asyncio.run(after(lease))
    assert held == 0
    assert other["token"] > lease["token"]
    assert ended == 1


def test_no_clock_step_ends_or_keeps_a_lease(tmp_path, monkeypatch):
    """TUNING.md 3.6, 34: the time of day decides nothing."""

    async def check(c: Client):
        await c.submit()
        lease = await c.lease()
        day = c.service.clock.day()
        for step in (86400, -86400):
            monkeypatch.setattr(c.service.clock, "day", lambda step=step: day + step)
            assert c.sweep(1) == 0
        assert c.sweep(31) == 1
        await c.complete(lease, 409)

    served(check, tmp_path)


IMPOSSIBLE = [
    {"samples_ms": [[0.0]]}, {"samples_ms": [[-1.0]]}, {"samples_ms": [[]]}, {"samples_ms": []},
    {"samples_ms": [[1.0], [1.0]]}, {"samples_ms": [[1e300]]}, {"samples_ms": [["1"]]},
    {"samples_ms": [[1.0] * 1001]}, {"cost_s": -1.0}, {"device": {**CPU, "cores": 5}},
    {"toolchain": "cd" * 32},
]  # fmt: skip


def test_times_that_can_not_be_are_refused(tmp_path):
    """TUNING.md 3.6, 35."""

    async def check(c: Client):
        await c.submit()
        lease = await c.lease()
        for changed in IMPOSSIBLE:
            await c.complete(lease, 422, **changed)
        await c.complete(lease)

    served(check, tmp_path)


def test_a_worker_that_lies_is_found_out_by_another(tmp_path):
    """TUNING.md 3.6, 35: it measures the best time, so the other one confirms."""

    async def check(c: Client):
        made = await c.submit(budget=4)
        lied, slow = False, {}
        while True:
            honest, liar = await c.lease("honest"), await c.lease("liar")
            for lease in filter(None, (honest, liar)):
                if lease is liar and not lied and lease["trial"]["number"] > 1:
                    lied = True
                    await c.complete(lease, samples_ms=[[1e-6]])
                    slow = lease["trial"]["configs"][0]
                elif lease["trial"]["purpose"] == "measure":
                    await c.complete(lease)
                else:
                    await c.complete(lease)
                    return slow, honest, liar, await c.study(made["id"])

    slow, honest, liar, after = served(check, tmp_path)
    assert liar is None
    assert honest["trial"]["purpose"] == "confirm"
    assert after["best"]["config"] == slow
    assert after["winner"]["time_ms"] > 1
    assert after["winner"]["provenance"]["worker"] == "honest"


def test_one_worker_confirms_its_own_where_there_is_no_other(tmp_path):
    async def check(c: Client):
        made = await c.submit(budget=2)
        await c.lease("gone", toolchain="cd" * 32)
        await c.work("w1")
        return await c.study(made["id"])

    assert served(check, tmp_path)["state"] == "done"


def test_a_confirmation_that_fails_is_made_of_fewer_configs(tmp_path):
    async def check(c: Client):
        made = await c.submit(budget=8, confirm=4)
        sizes = []
        while lease := await c.lease():
            if lease["trial"]["purpose"] == "confirm":
                sizes.append(len(lease["trial"]["configs"]))
                await c.fail(lease, "device_fault")
            else:
                await c.complete(lease)
        return sizes, await c.study(made["id"])

    sizes, after = served(check, tmp_path)
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == 4
    assert (after["state"], after["note"]) == ("failed", "the confirmation failed")


def test_a_drained_worker_is_told_and_may_come_back(tmp_path):
    async def check(c: Client):
        await c.submit()
        lease = await c.lease("w1")
        await c.post("/v1/workers/w1:drain", None, 204)
        await c.complete(lease)
        refused = await c.post("/v1/leases", asks("w1"), 410)
        listed = (await c.get("/v1/workers"))["workers"]
        registered = {n: v for n, v in asks("w1").items() if n != "wait_s"}
        await c.post("/v1/workers", registered, 204)
        await c.post("/v1/workers/w2:drain", None, 404)
        return refused, listed, await c.lease("w1")

    refused, listed, lease = served(check, tmp_path)
    assert refused["error"]["code"] == "draining"
    assert [(w["worker"], w["state"], w["done"]) for w in listed] == [("w1", "draining", 1)]
    assert lease["trial"]["number"] == 2


def test_many_studies_of_another_device_do_not_hide_one(tmp_path):
    async def check(c: Client):
        rare = (await c.submit(device={"kind": "cpu", "name": "Rare*"}))["id"]
        with c.service.database.read() as tx:
            row = dict(tx.execute(studies.select().where(studies.c.id == rare)).mappings().one())
        rows = [{**row, "id": f"s{i:020x}"} for i in range(300)]
        c.service.database.write(lambda tx: tx.execute(studies.insert(), rows))
        made = await c.submit()
        return (await c.lease())["trial"]["study"] == made["id"]

    assert served(check, tmp_path)


def test_workers_that_are_gone_for_long_are_forgotten(tmp_path):
    """Many are started under a new name each time: their number is bounded."""

    async def check(c: Client):
        def left():
            write = c.service.database.write
            write(lambda tx: fleet.forget(tx, c.service.clock))
            return [w.worker for w in write(
                lambda tx: fleet.listed(tx, "default", c.service.clock)).workers]  # fmt: skip

        await c.submit(budget=1)
        await c.lease("busy")
        await c.lease("old")
        before = left()
        c.ticks.ahead += 7 * 86400.0 + 1
        held = left()
        c.service.sweep()
        return before, held, left()

    assert served(check, tmp_path) == (["busy", "old"], ["busy"], [])


def test_workers_are_listed_page_by_page(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet, "PAGE", 2)

    async def check(c: Client):
        for name in ("c", "a", "b", "e", "d"):
            await c.lease(name)
        found, cursor = [], ""
        while cursor is not None:
            page = await c.get("/v1/workers" + (f"?cursor={cursor}" if cursor else ""))
            found.append([w["worker"] for w in page["workers"]])
            cursor = page["cursor"]
        await c.get("/v1/workers?cursor=..", 422)
        return found

    assert served(check, tmp_path) == [["a", "b"], ["c", "d"], ["e"]]


def test_many_workers_at_once_never_share_a_trial(tmp_path):
    async def check(c: Client):
        made = await c.submit(budget=16)

        async def work(name: str):
            found = []
            while (lease := await c.lease(name, wait_s=0.5)) is not None:
                found.append((lease["trial"]["id"], lease["token"]))
                await c.complete(lease)
            return found

        parts = await asyncio.gather(*(work(f"w{i}") for i in range(6)))
        return [x for part in parts for x in part], await c.study(made["id"])

    found, after = served(check, tmp_path)
    assert len({t for t, _ in found}) == len({n for _, n in found}) == len(found) == 17
    assert after["state"] == "done"
