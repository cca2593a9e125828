import json
import random

import pytest

from tilec.bench import fuzz
from tilec.bench.fuzz_requests import VALUES, Sent, bent


def test_requests_are_bent_in_every_way_and_the_same_for_a_seed():
    def made(seed: int) -> list[Sent]:
        chance = random.Random(seed)
        valid = Sent("POST", "/v1/studies", headers=fuzz.JSON)
        return [bent(valid, fuzz.STUDY, chance) for _ in range(60)]

    found = made(1)
    assert found == made(1) != made(2)
    whole = json.dumps(fuzz.STUDY).encode()
    assert len({s.content for s in found}) > 30
    assert any(s.content == whole for s in found)
    assert any(b"NaN" in s.content for s in found)
    assert len({s.path for s in found}) > 5
    assert len({s.method for s in found}) > 2
    assert json.dumps(fuzz.STUDY).encode() == whole


def test_what_is_put_into_a_request_is_the_same_in_the_next():
    """Otherwise bodies grow: after 40,000 requests one took seconds to make."""
    before = json.dumps(VALUES)
    chance = random.Random(2)
    for _ in range(3000):
        bent(Sent("POST", "/v1/studies"), fuzz.STUDY, chance)
    assert json.dumps(VALUES) == before


@pytest.mark.slow
def test_malformed_requests_break_nothing(tmp_path):
    """TUNING.md 3.5; `tilec bench fuzz` sends 52,000."""
    found = fuzz.measure(tmp_path, 500, 3000)
    assert found.faults == []
    assert found.clean
    assert found.cases["hand"] > 2500
    assert found.cases["schemathesis"] > 300
    assert {200, 201, 400, 403, 404, 409, 413, 415, 421, 422} - set(found.statuses) <= {413}
