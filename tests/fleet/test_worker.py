"""The worker's side of the protocol, beside a service of a few lines."""

import json
import signal
import threading

import pytest
from pretended_service import Pretended, lease, pretended, refused

from tilec.fleet.protocol import Failed, Identity, Lease, Measured, Service
from tilec.fleet.worker import Manners, Worker
from tilec.ir.errors import TileError
from tilec.tune.client.wire import Unreachable
from tilec.tune.records import Failure

WHO = Identity("w1", {"kind": "cuda", "name": "fake"}, "ab" * 32, ("x",))
TIMES = Measured(((0.002, 0.003),), 0.5)
ENDED = (200, {"trial": "t1", "state": "done"})
BEAT = (200, {"deadline_s": 0.06, "cancelled": False})


def never(got: Lease, stop: threading.Event) -> Measured:
    raise AssertionError("nothing is to be measured")


def worked(service: Pretended, measure, trials: int = 1, patience: float = 5.0, **manners):
    said: list[str] = []
    worker = Worker(Service(service.address, WHO, patience), measure,
                    Manners(wait_s=0.0, trials=trials, **manners), said.append)  # fmt: skip
    return worker.run(), said


def test_measures_and_hands_in(tmp_path):
    journal = tmp_path / "journal"
    with pretended(v1_workers=(204, None), v1_leases=[(204, None), (200, lease())],
                   **{"v1_leases_l1:complete": ENDED}) as service:  # fmt: skip
        done, said = worked(service, lambda got, stop: TIMES, journal=journal)
        assert done == 1
        assert said == ["s1 measure 1: done"]
        (handed,) = service.said("/v1/leases/l1:complete")
        assert handed["samples_ms"] == [[2.0, 3.0]]
        assert (handed["token"], handed["cost_s"], handed["toolchain"]) == (1, 0.5, "ab" * 32)
        assert service.said("/v1/workers") == [WHO.to_json()]
    line = json.loads(journal.read_text())
    assert (line["trial"], line["said"]) == ("t1", "done")


def test_repeats_under_the_same_key_until_it_is_answered():
    """An answer that was lost must not become a second lease or a second result."""
    leases, ends = [(0, None), refused(503), (200, lease())], [(0, None), refused(500), ENDED]
    with pretended(v1_workers=(204, None), v1_leases=leases,
                   **{"v1_leases_l1:complete": ends}) as service:  # fmt: skip
        assert worked(service, lambda got, stop: TIMES)[0] == 1
        for path, times in (("/v1/leases", 3), ("/v1/leases/l1:complete", 3)):
            keys = [h["Idempotency-Key"] for _, p, _, h in service.heard if p == path]
            assert len(keys) >= times
            assert len(set(keys)) == 1


def test_two_leases_have_two_keys():
    ends = {f"v1_leases_l{i}:complete": ENDED for i in (1, 2)}
    leases = [(200, lease(1)), (200, lease(2))]
    with pretended(v1_workers=(204, None), v1_leases=leases, **ends) as service:
        worked(service, lambda got, stop: TIMES, trials=2)
        keys = [h["Idempotency-Key"] for _, p, _, h in service.heard if p == "/v1/leases"]
        assert len(set(keys)) == 2


def test_a_late_result_is_dropped():
    with pretended(v1_workers=(204, None), v1_leases=(200, lease()),
                   **{"v1_leases_l1:complete": refused(409, "late")}) as service:  # fmt: skip
        assert worked(service, lambda got, stop: TIMES)[1] == ["s1 measure 1: late (done)"]
        assert len(service.said("/v1/leases/l1:complete")) == 1


@pytest.mark.parametrize(("beat", "why"), [
    ((200, {"deadline_s": 0.0, "cancelled": True}), "cancelled"),
    (refused(409, "late"), "409"),
])  # fmt: skip
def test_a_heartbeat_that_fails_ends_the_trial(beat, why):
    given = {**lease(), "deadline_s": 0.06}
    with pretended(v1_workers=(204, None), v1_leases=(200, given),
                   **{"v1_leases_l1:heartbeat": [BEAT, beat]}) as service:  # fmt: skip
        stopped: list[bool] = []

        def measure(got: Lease, stop: threading.Event) -> Measured:
            stopped.append(stop.wait(5))
            return TIMES

        _, (line,) = worked(service, measure)
        assert stopped == [True]
        assert "given up" in line
        assert why in line
        assert not service.said("/v1/leases/l1:complete")


def test_a_service_that_is_away_does_not_end_the_trial():
    given = {**lease(), "deadline_s": 0.03}
    with pretended(v1_workers=(204, None), v1_leases=(200, given),
                   **{"v1_leases_l1:heartbeat": [(0, None), refused(503), (200, {"odd": 1})],
                      "v1_leases_l1:complete": ENDED}) as service:  # fmt: skip

        def measure(got: Lease, stop: threading.Event) -> Measured:
            while len(service.said("/v1/leases/l1:heartbeat")) < 4:
                assert not stop.wait(0.01)
            return TIMES

        assert worked(service, measure)[1] == ["s1 measure 1: done"]


def test_what_goes_wrong_in_measuring_is_told_as_infra():
    with pretended(v1_workers=(204, None), v1_leases=(200, lease()),
                   **{"v1_leases_l1:fail": ENDED}) as service:  # fmt: skip

        def measure(got: Lease, stop: threading.Event) -> Measured:
            raise RuntimeError("no device" + "x" * 4000 + "\0\ud800")

        assert worked(service, measure)[1] == ["s1 measure 1: infra"]
        (told,) = service.said("/v1/leases/l1:fail")
        assert told["failure"] == "infra"
        assert len(told["detail"]) == 4000
        assert told["detail"].endswith("x??\n")


def test_a_failure_keeps_its_class():
    why = Failed(Failure.COMPILE_TIMEOUT, "slow", 2.0)
    with pretended(v1_workers=(204, None), v1_leases=(200, lease()),
                   **{"v1_leases_l1:fail": ENDED}) as service:  # fmt: skip
        worked(service, lambda got, stop: why)
        (told,) = service.said("/v1/leases/l1:fail")
        assert told == {"token": 1, "failure": "compile_timeout", "detail": "slow", "cost_s": 2.0}


def test_a_result_that_the_service_does_not_take_is_told_as_infra():
    answers = {"v1_leases_l1:complete": refused(422), "v1_leases_l1:fail": ENDED}
    with pretended(v1_workers=(204, None), v1_leases=(200, lease()), **answers) as service:
        assert worked(service, lambda got, stop: TIMES)[1] == ["s1 measure 1: infra"]
        assert "did not take" in service.said("/v1/leases/l1:fail")[0]["detail"]
    answers = {"v1_leases_l1:complete": refused(401)}
    with pretended(v1_workers=(204, None), v1_leases=(200, lease()), **answers) as service, \
            pytest.raises(TileError, match="TILEC_TOKEN"):  # fmt: skip
        worked(service, lambda got, stop: TIMES)


def test_the_service_drains_a_worker():
    with pretended(v1_workers=(204, None), v1_leases=refused(410)) as service:
        assert worked(service, never, trials=5) == (0, ["drained by the service"])


def test_a_worker_that_is_not_wanted_says_so_once():
    with pretended(v1_workers=refused(403)) as service:
        with pytest.raises(TileError, match="403") as error:
            worked(service, never)
        assert "scope worker" in str(error.value)


def test_a_service_that_stays_away_ends_the_worker():
    with pretended(v1_workers=(0, None)) as service, pytest.raises(Unreachable):
        worked(service, never, patience=0.3)


def test_drained_while_it_measures_it_finishes_and_takes_no_other():
    with pretended(v1_workers=(204, None), v1_leases=(200, lease()),
                   **{"v1_leases_l1:complete": ENDED}) as service:  # fmt: skip
        said: list[str] = []
        worker = Worker(Service(service.address, WHO, 5.0), lambda got, stop: measure(stop),
                        Manners(wait_s=0.0), said.append)  # fmt: skip

        def measure(stop: threading.Event) -> Measured:
            worker.drain()
            assert not stop.is_set()
            return TIMES

        assert worker.run() == 1
        assert said == ["s1 measure 1: done"]


@pytest.mark.parametrize("grace", [0.05, 60.0])
def test_drained_twice_or_beyond_its_grace_it_gives_the_trial_back(grace):
    with pretended(v1_workers=(204, None), v1_leases=(200, lease()),
                   **{"v1_leases_l1:fail": ENDED}) as service:  # fmt: skip
        stopped: list[bool] = []
        worker = Worker(Service(service.address, WHO, 5.0), lambda got, stop: measure(stop),
                        Manners(wait_s=0.0, grace_s=grace), lambda line: None)  # fmt: skip

        def measure(stop: threading.Event) -> Measured:
            worker.drain()
            if grace > 1:
                worker.drain()
            stopped.append(stop.wait(5))
            return TIMES

        assert worker.run() == 1
        assert stopped == [True]
        assert service.said("/v1/leases/l1:fail")[0]["failure"] == "infra"


def test_signals_drain():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pretended(v1_workers=(204, None), v1_leases=(204, None)) as service:
        worker = Worker(Service(service.address, WHO, 5.0), never, Manners(wait_s=0.0), print)
        worker.on_signals()
        try:
            signal.raise_signal(signal.SIGTERM)
            assert worker.run() == 0
        finally:
            signal.signal(signal.SIGTERM, before[0])
            signal.signal(signal.SIGINT, before[1])


@pytest.mark.parametrize("damage", [
    {"token": "1"}, {"token": True}, {"deadline_s": -1}, {"trial": 3}, {"more": 1},
    {"trial": {"id": "t"}}, {"job": []}, {"default": {"a": [1]}},
])  # fmt: skip
def test_a_lease_that_is_none_is_an_error(damage):
    with pytest.raises(TileError):
        Lease.from_json({**lease(), **damage})
