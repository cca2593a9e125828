"""Who may confirm: whose token a worker has counts, not what it is called."""

from typing import Any

from served import Client, asks, served


async def _measured(c: Client, **names: Client) -> dict:
    """The last lease that `names` got, of the confirmation; they measured one after the other."""
    await c.submit(budget=4)
    while True:
        for name, by in names.items():
            if (lease := await by.lease(name)) is None:
                continue
            if lease["trial"]["purpose"] == "confirm":
                return {"by": name, **lease}
            lied: dict[str, Any] = {"samples_ms": [[1e-6]]} if name.startswith("liar") else {}
            await by.complete(lease, **lied)


def test_a_token_under_two_names_does_not_confirm_itself(tmp_path):
    """TUNING.md 3.6, 35: names are said by workers, tokens are given to them."""

    async def check(c: Client):
        liar, honest = c.token("worker"), c.token("worker")
        first = await _measured(c, liar1=liar, liar2=liar, honest=honest)
        await honest.complete(first)
        second = await c.submit(budget=1)
        await liar.complete(await liar.lease("liar1"), samples_ms=[[1e-6]])
        c.ticks.ahead += 45  # longer than another name is waited for, while the other has been seen
        refused = [await liar.lease("liar2"), await liar.lease("liar1")]
        await liar.post("/v1/leases", asks("honest"), 409)
        await honest.complete(await honest.lease("honest"))
        return first["by"], refused, await c.study(second["id"])

    by, refused, after = served(check, tmp_path)
    assert (by, refused) == ("honest", [None, None])
    assert after["winner"]["provenance"]["worker"] == "honest"


def test_the_names_of_one_token_confirm_each_other_where_there_is_no_other(tmp_path):
    async def check(c: Client):
        ours = c.token("worker")
        await c.token("worker").lease("stranger")
        c.ticks.ahead += 61  # it was not seen for long
        made = await c.submit(budget=1)
        await ours.lease("two", recorded=["other"])
        await ours.complete(await ours.lease("one"))
        alone = await ours.lease("one")
        await ours.fail(alone, "infra")
        await ours.lease("two")
        c.ticks.ahead += 1
        return made["id"], alone, await ours.lease("one"), await ours.lease("two")

    id_, alone, own, other = served(check, tmp_path)
    assert alone["trial"]["purpose"] == "confirm"  # the other does not know the space
    assert own is None
    assert (other["trial"]["study"], other["trial"]["purpose"]) == (id_, "confirm")


def test_a_name_goes_to_another_token_when_it_is_not_in_use(tmp_path):
    async def check(c: Client):
        one, other = c.token("worker"), c.token("worker")
        worker = {n: v for n, v in asks("w1").items() if n != "wait_s"}
        await one.post("/v1/workers", worker, 204)
        await other.post("/v1/workers", worker, 409)
        c.ticks.ahead += 61
        await other.post("/v1/workers", worker, 204)
        await one.post("/v1/leases", asks("w1"), 409)

    served(check, tmp_path)
