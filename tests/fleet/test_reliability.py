"""Small runs of `tilec bench reliability`, and what the audit finds where it should."""

import sqlite3

import pytest

from tilec.bench import reliability
from tilec.bench.reliability_fleet import (
    SPACE,
    Fleet,
    Server,
    audited,
    request,
    synthetic,
    waited,
)
from tilec.bench.reliability_lookup import Latency
from tilec.bench.reliability_scenes import Outcome
from tilec.fleet.device import Device
from tilec.fleet.recorded import TOOLCHAIN
from tilec.serve.keys import device_digest
from tilec.serve.models import Fingerprint
from tilec.tune.client.lookup import Lookup
from tilec.tune.client.studies import Studies

SCALES = {row.name: 0.1 for row in reliability.ROWS}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", reliability.ROWS, ids=lambda r: r.name.partition(":")[0])
def test_nothing_is_lost_or_done_twice(row, tmp_path):
    if row.needs:
        pytest.importorskip(row.needs)
    found = row.scene(0.1)(tmp_path)
    assert found.clean, found
    assert found.times >= 1
    assert found.trials > 0


@pytest.mark.slow
def test_a_finished_study_is_found_by_a_lookup(tmp_path):
    space = synthetic(0.02, (4, 4))
    server = Server(tmp_path)
    fleet = Fleet(tmp_path, server, space)
    try:
        server.start()
        fleet.add(2)
        study = Studies(server.address).submit(request(space, 16, "evolve"))["id"]
        assert waited(server, study, 60)
        winner = Studies(server.address).study(study)["winner"]
        device = Fingerprint.model_validate(Device("recorded", "fake").fingerprint())
        key = {"kernel": "ab" * 32, "device": device_digest(device), "toolchain": TOOLCHAIN}
        (found,) = Lookup(server.address).lookup([{**key, "policy": {}}]) or [None]
        assert found is not None
        assert found.config.to_json() == winner["config"]
        assert Lookup(server.address).lookup([{**key, "device": "00" * 32, "policy": {}}]) == [None]
        assert _audit_finds(server, study, fleet)
        assert fleet.end() == 0
    finally:
        for worker in fleet.alive:
            worker.kill()
        server.stop()


def _audit_finds(server: Server, study: str, fleet: Fleet) -> bool:
    """Whether damage that is made to the database is counted: else the suite could not fail."""
    journal = fleet.journal()
    good = audited(server, study, 16, journal)
    assert (good.lost, good.duplicated, good.orphans) == (0, 0, 0)
    assert audited(server, study, 17, journal).lost == 1
    assert audited(server, study, 16, [*journal, journal[0]]).duplicated == 1
    unknown = {"study": study, "trial": "t0", "said": "done"}
    assert audited(server, study, 16, [*journal, unknown]).lost == 1
    done = "(select id from trials where study = ? and state = 'done' limit 1)"
    with sqlite3.connect(tmp := server.folder / "tilec.db") as base:
        base.execute(f"update leases set state = 'active' where trial = {done}", (study,))
    hurt = audited(server, study, 16, journal)
    with sqlite3.connect(tmp) as base:
        base.execute("update leases set state = 'done' where state = 'active'")
        base.execute("update leases set trial = (select min(trial) from leases where state = 'done'"
                     " and study = ?) where state = 'done'", (study,))  # fmt: skip
    twice = audited(server, study, 16, journal)
    return hurt.orphans == 1 and hurt.lost == 1 and twice.duplicated > 5


def test_the_tables_say_what_was_wrong():
    good = Outcome(3, 10, 0, 0, 0, 0, "fine")
    for name in ("lost", "duplicated", "orphans", "errors"):
        bad = reliability.Result("x", Outcome(**{**vars(good), name: 1}))
        assert not reliability.clean([reliability.Result("y", good), bad])
    assert reliability.clean([reliability.Result("y", good)])
    quick = Latency("x", 0.2, 0.001, {}, 0, 0)
    assert reliability.quick([quick])
    for name, value in (("first", 0.3), ("later", 0.1), ("found", 1), ("raised", 1)):
        assert not reliability.quick([quick, Latency(**{**vars(quick), name: value})])
    assert reliability.table([reliability.Result("y", good)]).row_count == 1
    assert reliability.lookup_table([quick]).row_count == 1


def test_rows_are_chosen_by_words():
    assert [r.name for r in reliability.chosen(["disk"])] == ["disk full"]
    assert len(list(reliability.chosen([]))) == len(reliability.ROWS)
    assert list(reliability.chosen(["lookup"])) == []


def test_a_study_of_the_suite_is_one_that_the_service_takes():
    from tilec.serve.models import StudyRequest

    space = synthetic(0.1)
    made = StudyRequest.model_validate(request(space, 500))
    assert made.job.kind == "recorded"
    assert made.job.space == SPACE
    assert len(space.space.rows or ()) >= 500
