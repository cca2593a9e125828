import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from served import CPU, SPACE, Client, asks, client, served, setup, study, time_ms

from tilec.serve.keys import device_digest
from tilec.serve.models import Fingerprint
from tilec.tune.config import Config
from tilec.tune.records import Study, Trial
from tilec.tune.search.loop import Search
from tilec.tune.space import Space

GPU = {"kind": "cuda", "name": "Test GPU", "sms": 8, "capability": "9.0", "driver": "1"}


def searched(budget: int, seed: int, sampler: str) -> list[dict]:
    """What a search beside the service proposes."""
    search = Search(Study("", "", Space.from_json(SPACE), seed=seed, budget=budget), sampler)
    while asked := search.ask(1):
        search.tell(*(Trial(c, (time_ms(c.to_json()) * 1e-3,)) for c in asked))
    return [t.config.to_json() for t in search.study.trials]


def test_a_study_is_measured_confirmed_and_published(tmp_path):
    async def check(c: Client):
        made = await c.submit()
        assert (made["state"], made["trials"]["done"]) == ("queued", 0)
        found = await c.work()
        after = await c.study(made["id"])
        key = after["winner"]["key"]
        return found, after, await c.get(f"/v1/configs/{key}")

    found, after, published = served(check, tmp_path)
    assert [t["purpose"] for t in found] == ["measure"] * 6 + ["confirm"]
    assert found[0]["configs"] == [SPACE["default"]]
    assert found[-1]["configs"][0] == SPACE["default"]
    assert after["state"] == "done"
    assert after["trials"]["done"] == 7
    winner = after["winner"]
    best = min((t["configs"][0] for t in found[:6]), key=time_ms)
    assert winner["config"] == after["best"]["config"] == best
    assert winner["time_ms"] == pytest.approx(time_ms(best))
    assert winner["provenance"]["default_ms"] == pytest.approx(time_ms(SPACE["default"]))
    assert winner["provenance"]["study"] == after["id"]
    assert published == winner


@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_one_worker_gets_what_a_search_proposes_even_over_restarts(tmp_path, sampler):
    """A server that ends after every trial, with one leased, loses and changes nothing."""
    expected = searched(7, 3, sampler)

    async def one(leased: Any) -> Any:
        async with client(setup(tmp_path)) as c:
            if leased is None:
                await c.submit(budget=7, sampler=sampler)
            else:
                await c.complete(leased)
            return await c.lease()

    found: list[dict] = []
    leased = asyncio.run(one(None))
    while leased is not None:
        found.append(leased["trial"])
        leased = asyncio.run(one(leased))
    assert [t["configs"][0] for t in found if t["purpose"] == "measure"] == expected
    assert found[-1]["purpose"] == "confirm"


def test_a_child_process_proposes_the_same(tmp_path):
    async def check(c: Client):
        await c.submit(sampler="gp")
        return await c.work()

    here = served(check, tmp_path / "a")
    child = served(check, tmp_path / "b", planners=1)
    assert [t["configs"] for t in here] == [t["configs"] for t in child]


def test_trials_are_shared_by_workers_and_the_budget_holds(tmp_path):
    async def check(c: Client):
        made = await c.submit(budget=9)
        found = await c.work("w1", "w2", "w3")
        return found, await c.study(made["id"])

    found, after = served(check, tmp_path)
    measured = [json.dumps(t["configs"]) for t in found if t["purpose"] == "measure"]
    assert len(measured) == len(set(measured)) == 9
    assert after["state"] == "done"


def test_a_space_that_is_used_up_ends_the_search(tmp_path):
    async def check(c: Client):
        made = await c.submit(budget=1000)
        found = await c.work()
        return found, await c.study(made["id"])

    found, after = served(check, tmp_path)
    assert len(found) == len(list(Space.from_json(SPACE))) + 1
    assert after["state"] == "done"
    assert after["winner"]["config"] == {"bm": 64, "bn": 64, "order": "column"}


def test_nothing_is_published_that_is_slower_than_the_default(tmp_path):
    async def check(c: Client):
        made = await c.submit()
        while (lease := await c.lease())["trial"]["purpose"] == "measure":
            await c.complete(lease)
        samples = [[1.0] * 8, *([[1.5] * 8] * (len(lease["trial"]["configs"]) - 1))]
        await c.complete(lease, samples_ms=samples)
        return await c.study(made["id"])

    winner = served(check, tmp_path)["winner"]
    assert winner["config"] == SPACE["default"]
    assert winner["time_ms"] == winner["provenance"]["default_ms"] == 1.0


def test_times_that_tie_go_to_the_default(tmp_path):
    async def check(c: Client):
        made = await c.submit()
        while (lease := await c.lease())["trial"]["purpose"] == "measure":
            await c.complete(lease)
        others = len(lease["trial"]["configs"]) - 1
        await c.complete(lease, samples_ms=[[1.0] * 8, *([[0.992] * 8] * others)])
        return await c.study(made["id"])

    assert served(check, tmp_path)["winner"]["config"] == SPACE["default"]


def test_a_published_config_is_confirmed_again_beside_a_new_studys_best(tmp_path):
    async def check(c: Client):
        await c.submit(budget=1000)
        await c.work()
        await c.submit(budget=1)
        return (await c.work())[-1]

    last = served(check, tmp_path)
    assert last["configs"] == [SPACE["default"], {"bm": 64, "bn": 64, "order": "column"}]


def test_a_search_starts_from_finished_studies_of_the_family(tmp_path):
    async def check(c: Client):
        first = await c.submit(budget=1000)
        await c.work()
        other = await c.submit(family="99" * 32)
        second = await c.submit(seed=9, sampler="gp", shape={"M": 32, "N": 4096})
        assert other["sources"] == []
        assert second["sources"] == [first["id"]]
        await c.post(f"/v1/studies/{other['id']}:cancel")
        return [t["configs"][0] for t in await c.work()]

    found = served(check, tmp_path)
    assert found[0] == SPACE["default"]
    assert found[1] == {"bm": 64, "bn": 64, "order": "column"}


def test_cancelling_ends_everything_and_tells_the_worker(tmp_path):
    async def check(c: Client):
        made = await c.submit()
        lease = await c.lease()
        cancelled = await c.post(f"/v1/studies/{made['id']}:cancel")
        again = await c.post(f"/v1/studies/{made['id']}:cancel")
        beat = await c.post(f"/v1/leases/{lease['lease']}:heartbeat", {"token": lease["token"]})
        late = await c.complete(lease, status=409)
        return cancelled, again, beat, late, await c.lease(), await c.trials(made["id"])

    cancelled, again, beat, late, nothing, trials = served(check, tmp_path)
    assert cancelled["state"] == "cancelled"
    assert cancelled == again
    assert beat["cancelled"]
    assert late["error"]["code"] == "late"
    assert nothing is None
    assert [t["state"] for t in trials] == ["cancelled"]


def test_studies_are_listed_the_newest_first_page_by_page(tmp_path):
    async def check(c: Client):
        made = [(await c.submit(name=f"study {i}"))["id"] for i in range(53)]
        first = await c.get("/v1/studies")
        second = await c.get(f"/v1/studies?cursor={first['cursor']}")
        return made, first, second

    made, first, second = served(check, tmp_path)
    assert [s["id"] for s in first["studies"] + second["studies"]] == made[::-1]
    assert second["cursor"] is None


def test_studies_are_found_by_words_on_every_page(tmp_path):
    async def check(c: Client):
        await c.submit(name="Softmax, 100% rows", shape={"M": 7}, kernel="99" * 32)
        await c.submit(name="linear", shape={"M": 77})
        for i in range(52):
            await c.submit(name=f"convolution {i}")

        async def found(words: str) -> list[str]:
            page = await c.get("/v1/studies?find=" + quote(words))
            return [s["name"] for s in page["studies"]]

        first = await c.get("/v1/studies?find=conv")
        more = await c.get(f"/v1/studies?find=conv&cursor={first['cursor']}")
        sizes = len(first["studies"]), len(more["studies"]), more["cursor"]
        odd = [await found(w) for w in ("100%", "%", "_", "' OR 1=1 --", "%00")]
        return sizes, odd, [await found(w) for w in (
            "softMAX queued", "M=7", "m=77", "convolution 51", "9999 soft", "done")]  # fmt: skip

    sizes, odd, found = served(check, tmp_path)
    assert sizes == (50, 2, None)
    assert odd == [["Softmax, 100% rows"]] * 2 + [[]] * 3
    soft = ["Softmax, 100% rows"]
    assert found == [soft, ["linear", *soft], ["linear"], ["convolution 51"], soft, []]


WRONG = [
    {"space": {**SPACE, "default": {"bm": 17, "bn": 16, "order": "row"}}},
    {"space": {**SPACE, "default": {"bm": 128, "bn": 64, "order": "row"}}},
    {"space": {**SPACE, "constraints": [{"condition": "__import__('os')"}]}},
    {"space": {**SPACE, "constraints": [{"condition": "bm.real > 1"}]}},
    {"space": {"parameters": [{"name": "a b", "values": [1]}]}},
    {"space": {"parameters": [{"name": "bm", "values": ["$(id)"]}]}},
    {"space": {"parameters": [{"name": "bm", "values": [1, 1]}]}},
    {"space": {**SPACE, "ir_override": "x"}},
    {"ir_override": "file"},
    {"job": {"kind": "kernel", "ir": "x", "backend": "cpu", "target": "host", "flags": ["-B"]}},
    {"job": {"kind": "kernel", "ir": "x\0", "backend": "cpu", "target": "host"}},
    {"name": "a\nb"},
    {"name": "a\u202eb"},
    {"name": "x" * 10_000},
    {"budget": 0},
    {"budget": 10**30},
    {"budget": 1.5},
    {"budget": "5"},
    {"budget": True},
    {"priority": 10},
    {"priority": -1},
    {"seed": 2**63 - 1, "kernel": "../../etc/passwd"},
    {"shape": {"M N": 1}},
    {"policy": {"mode": "eager", "url": "http://localhost/"}},
    {"callback": "http://localhost/"},
]  # fmt: skip


def test_a_study_that_is_not_as_it_should_be_is_refused(tmp_path):
    """TUNING.md 3.6: 14, 15, 17, 19, 20, 30: there is no field for a file, a flag or a URL."""

    async def check(c: Client):
        for changed in WRONG:
            found = await c.post("/v1/studies", study(**changed), None)
            assert found.status_code in (400, 422), (changed, found.text)
            assert len(found.content) < 2000
        assert (await c.get("/v1/studies"))["studies"] == []

    served(check, tmp_path)


def test_a_space_without_a_config_ends_its_study_with_a_reason(tmp_path):
    space = {"parameters": SPACE["parameters"], "constraints": [{"condition": "bm > 1000"}]}

    async def check(c: Client):
        made = await c.submit(space=space)
        assert await c.lease() is None
        return await c.study(made["id"])

    after = served(check, tmp_path)
    assert after["state"] == "failed"
    assert after["note"] in ("no config ran", "no config satisfies the constraints of this space")


@pytest.mark.slow
def test_a_space_that_never_ends_is_given_up_and_others_go_on(tmp_path):
    """Fifty parameters whose constraint only their last one decides: to enumerate is hopeless."""
    names = [f"p{i}" for i in range(50)]
    space = {"parameters": [{"name": n, "values": [0, 1, 2, 3]} for n in names],
             "constraints": [{"condition": f"{' + '.join(names)} > 1000"}]}  # fmt: skip

    async def check(c: Client):
        bad = await c.submit(space=space, priority=9)
        good = after = await c.submit(budget=2)
        for _ in range(20):
            await c.work()
            await asyncio.sleep(0.5)
            after = await c.study(good["id"])
            if after["state"] == "done":
                break
        return await c.study(bad["id"]), after

    bad, good = served(check, tmp_path, plan_s=3.0, planners=1)
    assert (bad["state"], good["state"]) == ("failed", "done")
    assert "took more than 3 s" in bad["note"]


def test_a_study_is_measured_on_one_device_only(tmp_path):
    other = {**CPU, "name": "Other CPU"}

    async def check(c: Client):
        made = await c.submit(device={"kind": "cpu", "name": "* CPU"})
        gpu = await c.lease("w0", device=GPU)
        compiler = await c.lease("w1", toolchain="cd" * 32)
        unknown = await c.lease("w2", recorded=[])
        lease = await c.lease("w3")
        elsewhere = await c.lease("w4", device=other)
        await c.complete(lease)
        still = await c.lease("w4", device=other)
        return gpu, compiler, unknown, elsewhere, still, await c.study(made["id"])

    *nothing, after = served(check, tmp_path)
    assert nothing == [None] * 5
    assert after["measured_on"]["name"] == "Test CPU"


def test_the_study_of_the_highest_priority_comes_first(tmp_path):
    async def check(c: Client):
        low, high = await c.submit(priority=1), await c.submit(priority=8)
        lease = await c.lease()
        return lease["trial"]["study"] == high["id"] != low["id"]

    assert served(check, tmp_path)


def test_a_waiting_worker_is_woken_by_a_new_study(tmp_path):
    async def check(c: Client):
        waits = asyncio.create_task(c.post("/v1/leases", asks(wait_s=20.0)))
        await asyncio.sleep(0.2)
        assert not waits.done()
        await c.submit()
        return await asyncio.wait_for(waits, 5)

    assert served(check, tmp_path)["trial"]["number"] == 1


def test_events_tell_all_that_happens_and_go_on_where_they_stopped(tmp_path):
    async def check(c: Client):
        made = await c.submit(budget=2)
        await c.work()
        path = f"/v1/studies/{made['id']}/events"
        whole = (await c.get(path, None)).text
        beyond = (await c.get(path, None, Last_Event_ID="1000")).text
        return whole, (await c.get(path, None, Last_Event_ID="3")).text, beyond

    whole, rest, beyond = served(check, tmp_path)
    events = [dict(x.split(": ", 1) for x in e.splitlines()) for e in whole.strip().split("\n\n")]
    assert [int(e["id"]) for e in events[:-1]] == list(range(1, len(events)))
    assert [json.loads(e["data"]).get("state") for e in events] == [
        "queued", "running", "leased", "done", "leased", "done", "confirming", "leased", "done",
        "done", None]  # fmt: skip
    assert events[-1]["event"] == "end"
    assert beyond == "event: end\ndata: {}\n\n"
    assert rest == whole[whole.index("id: 4\n") :]


def test_ceilings_are_shown_for_the_device_that_they_are_of(tmp_path):
    here = device_digest(Fingerprint.model_validate(CPU))
    work = {"operations": 2e6, "bytes": 1e6, "bytes_per_s": 1e9, "operations_per_s": 1e11}

    async def check(c: Client):
        made = [
            await c.submit(work=w, budget=1)
            for w in (None, work, {**work, "device": here}, {**work, "device": "00" * 32})
        ]
        before = [m["work"] and m["work"]["bytes_per_s"] for m in made]
        await c.work()
        after = [(await c.study(m["id"]))["work"] for m in made]
        return before, [w and (w["operations"], w["bytes_per_s"]) for w in after]

    before, after = served(check, tmp_path)
    assert before == [None, 1e9, None, None]
    assert after == [None, (2e6, 1e9), (2e6, 1e9), (2e6, None)]


def test_exports_say_what_was_measured(tmp_path):
    async def check(c: Client):
        made = await c.submit(budget=2)
        await c.complete(await c.lease(), compile_s=0.25)
        lease = await c.lease()
        await c.fail(lease, "compile_error")
        trials = await c.trials(made["id"])
        assert [t["compile_s"] for t in trials[:2]] == [0.25, None]
        return await c.get(f"/v1/studies/{made['id']}/t4")

    found = served(check, tmp_path)["results"]
    assert [r["times"].get("compilation_time") for r in found] == [250.0, None]
    assert [r["invalidity"] for r in found] == ["correct", "compile"]
    assert found[0]["configuration"] == SPACE["default"]
    assert found[0]["measurements"][0]["value"] == time_ms(SPACE["default"])
    assert Config.of(found[1]["configuration"]) in Space.from_json(SPACE)
