"""Studies over HTTP: one clear error, through restarts, with the token where it belongs."""

import pytest
from pretended_service import pretended, refused

from tilec.ir.errors import TileError
from tilec.tune.client.studies import Studies
from tilec.tune.client.wire import Address, Refused, Unreachable, Wire, _read

STUDY = {"id": "s1", "state": "running"}


def test_submit_survives_a_restart_and_makes_one_study():
    with pretended(v1_studies=[(0, None), refused(503), (201, STUDY)]) as peer:
        assert Studies(peer.address).submit({"name": "x"}) == STUDY
        assert len({h["Idempotency-Key"] for _, _, _, h in peer.heard}) == 1
        assert Studies(peer.address).submit({"name": "x"}) == STUDY
        assert len({h["Idempotency-Key"] for _, _, _, h in peer.heard}) == 2


@pytest.mark.parametrize(("answer", "words"), [
    (refused(401), ("not now", "TILEC_TOKEN")),
    (refused(403), ("403", "scope")),
    (refused(422, "invalid"), ("invalid", "422")),
    ((500, "no JSON error"), ("500",)),
    ((0, None), ("does not answer", "tilec serve")),
])  # fmt: skip
def test_every_failure_is_one_error(answer, words):
    with pretended(v1_studies=answer) as peer:
        with pytest.raises(TileError) as error:
            Studies(peer.address, patience_s=0.2).submit({})
        assert all(w in str(error.value) for w in words), str(error.value)


def test_watch_tells_changes_until_the_end():
    states = [(200, {**STUDY, "n": 1}), (200, {**STUDY, "n": 1}), (0, None),
              (200, {**STUDY, "state": "done"})]  # fmt: skip
    with pretended(v1_studies_s1=states) as peer:
        found = list(Studies(peer.address).watch("s1", poll_s=0.01))
        assert [f["state"] for f in found] == ["running", "done"]


def test_trials_are_paged():
    first, last = {"trials": [{"n": 1}], "cursor": "7"}, {"trials": [{"n": 2}], "cursor": None}
    with pretended(v1_studies_s1_trials=(200, first)) as peer:
        peer.answers["/v1/studies/s1/trials?cursor=7"] = (200, last)
        assert [t["n"] for t in Studies(peer.address).trials("s1")] == [1, 2]


def test_ids_can_not_leave_their_place():
    with pretended() as peer:
        with pytest.raises(TileError, match="404"):
            Studies(peer.address).cancel("../../x?y#z")
        assert peer.heard[0][1] == "/v1/studies/..%2F..%2Fx%3Fy%23z:cancel"


def test_the_token_is_sent_and_not_shown():
    with pretended(v1_studies_s1=(200, STUDY)) as peer:
        address = Address.of({"TILEC_SERVICE": peer.address.url, "TILEC_TOKEN": "secret"})
        assert address is not None
        Studies(address).study("s1")
        assert peer.heard[0][3]["Authorization"] == "Bearer secret"
        assert "secret" not in repr(address)


def test_the_token_of_a_file(tmp_path):
    (tmp_path / "t").write_text("secret\n")
    found = {"TILEC_SERVICE": "https://h:1/", "TILEC_TOKEN_FILE": str(tmp_path / "t")}
    assert Address.of(found) == Address("https://h:1", "secret")
    with pytest.raises(TileError, match="TILEC_TOKEN_FILE"):
        Address.of({**found, "TILEC_TOKEN_FILE": str(tmp_path / "none")})
    assert Address.of({}) is None


@pytest.mark.parametrize(("url", "token", "word"), [
    ("ftp://h", "", "no URL"), ("http://", "", "no URL"), ("http://h:99999", "", "no URL"),
    ("http://u:p@h", "", "password"), ("http://h?x=1", "", "no URL"),
    ("http://example.org", "secret", "unencrypted"), ("https://h", "a\r\nb", "letters"),
])  # fmt: skip
def test_addresses_that_are_refused(url, token, word):
    with pytest.raises(TileError, match=word):
        Address(url, token)


def test_no_redirect_is_followed():
    with pretended(v1_studies_s1=(302, {})) as peer, pytest.raises(Refused) as error:
        Wire(peer.address).ask("GET", "/v1/studies/s1")
    assert error.value.status == 302
    assert len(peer.heard) == 1


def test_an_idle_connection_that_was_closed_is_opened_again():
    with pretended(v1_studies_s1=[(200, STUDY), (0, None), (200, STUDY)]) as peer:
        wire = Wire(peer.address)
        assert wire.ask("GET", "/v1/studies/s1") == wire.ask("GET", "/v1/studies/s1") == STUDY
        assert len(peer.heard) == 3


def test_a_write_without_a_key_is_not_repeated():
    with pretended(v1_studies=[(200, STUDY), (0, None), (200, STUDY)]) as peer:
        wire = Wire(peer.address)
        wire.ask("POST", "/v1/studies", {})
        with pytest.raises(Unreachable):
            wire.ask("POST", "/v1/studies", {})
        assert len(peer.heard) == 2


def test_an_answer_has_a_bound():
    with pretended(v1_studies_s1=(200, {"x": "y" * 2000})) as peer, pytest.raises(Unreachable):
        Wire(peer.address, most=1000).ask("GET", "/v1/studies/s1")


def test_what_is_read_of_an_answer():
    assert _read(204, b"") is None
    with pytest.raises(Unreachable):
        _read(200, b"{")
    with pytest.raises(Refused, match="no reason"):
        _read(502, b"<html>")
