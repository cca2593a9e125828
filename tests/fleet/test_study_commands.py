"""`tilec tune submit|watch|cancel` beside a service of a few lines."""

import io
import json
from pathlib import Path

import pytest
from pretended_service import pretended, refused
from rich.console import Console
from typer.testing import CliRunner

from tilec.bench.reliability_fleet import synthetic
from tilec.cli import app
from tilec.cli.studies import shown
from tilec.fleet.recorded import TOOLCHAIN, describe
from tilec.serve.models import StudyRequest
from tilec.tune.job import Job, device, device_digest, policy_of, toolchain
from tilec.tune.space import Space

LINEAR = Path(__file__).parents[2] / "examples" / "linear.tile"
STUDY = {"id": "s1", "name": "linear", "state": "running", "budget": 4, "winner": None,
         "best": {"time_ms": 2.0},
         "trials": {"pending": 1, "leased": 1, "done": 1, "failed": 1, "poison": 0}}  # fmt: skip
DONE = {**STUDY, "state": "done", "winner": {
    "config": {"m": 16, "n": 64}, "time_ms": 1.0, "provenance": {"default_ms": 3.0}}}  # fmt: skip


def run(url: str, *words: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, [*words, "--service", url], env={"TILEC_TOKEN": ""})
    return found.exit_code, found.stdout, found.stderr


def test_a_kernel_is_submitted_as_ir_with_its_space():
    with pretended(v1_studies=(201, STUDY)) as peer:
        code, out, err = run(peer.address.url, "tune", "submit", str(LINEAR), "--dims",
                             "M=16,N=512,K=512", "--budget", "30", "--seed", "5")  # fmt: skip
        assert (code, out) == (0, "s1  running  2 ms\n"), err
        (sent,) = peer.said("/v1/studies")
    made = StudyRequest.model_validate(sent)  # the service takes it
    assert (made.budget, made.seed, made.shape) == (30, 5, {"M": 16, "N": 512, "K": 512})
    job = Job.from_json(sent["job"])
    assert (sent["kernel"], sent["toolchain"]) == (job.kernel, toolchain("cpu"))
    assert sent["policy"] == policy_of("cpu").to_json()
    space = Space.from_json(sent["space"])
    assert space.default is not None
    assert {"m", "n", "k"} <= set(space.names)
    assert made.work is not None
    assert 1 <= made.work.operations / (2 * 16 * 512 * 512) < 1.1  # the product and its epilogue
    assert made.work.bytes == 2 * 512 * (16 + 512) + 4 * 512 * (1 + 16)
    assert made.work.device == device_digest(device())
    assert min(made.work.bytes_per_s or 0, made.work.operations_per_s or 0) > 1e9


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_what_no_worker_can_measure_is_not_submitted(backend):
    with pretended(v1_studies=(201, STUDY)) as peer:
        code, _, err = run(peer.address.url, "tune", "submit", str(LINEAR), "--dims",
                           "M=16,N=512,K=512", "--backend", backend, "--graph")  # fmt: skip
        assert (code, "mode is graph, expected eager" in err) == (1, True)
        assert peer.said("/v1/studies") == []


def test_ceilings_are_said_for_this_processor_with_its_threads_only():
    with pretended(v1_studies=(201, STUDY)) as peer:
        for words in (("--threads", "999"), ("--backend", "triton", "--target", "sm_90a")):
            code, _, err = run(peer.address.url, "tune", "submit", str(LINEAR), "--dims",
                               "M=64,N=512,K=512", *words)  # fmt: skip
            assert code == 0, err
        for sent in peer.said("/v1/studies"):
            assert set(sent["work"]) == {"operations", "bytes"}


def test_a_recorded_space_is_submitted_by_its_name(tmp_path):
    space = synthetic(0.1, (3, 4))
    (tmp_path / "conv.json").write_text(describe(space))
    with pretended(v1_studies=(201, STUDY)) as peer:
        assert run(peer.address.url, "tune", "submit", str(tmp_path / "conv.json"))[0] == 0
        (sent,) = peer.said("/v1/studies")
    made = StudyRequest.model_validate(sent)
    assert sent["job"] == {"kind": "recorded", "space": "conv"}
    assert (made.toolchain, made.kernel) == (TOOLCHAIN, space.space.digest)
    assert Space.from_json(sent["space"]) == space.space


def test_watch_says_what_won():
    with pretended(v1_studies_s1=[(200, STUDY), (200, DONE)]) as peer:
        code, out, err = run(peer.address.url, "tune", "watch", "s1")
    assert code == 0
    assert out == "s1  done  1 ms\nm=16,n=64, 3.00 times as fast as the default\n"
    assert err.splitlines() == ["linear: running, 2/4", "linear: done, 2/4"]


def test_a_study_that_failed_is_an_exit_code():
    with pretended(v1_studies_s1=(200, {**STUDY, "state": "failed"})) as peer:
        code, out, _ = run(peer.address.url, "tune", "watch", "s1", "--json")
    assert (code, json.loads(out)["state"]) == (1, "failed")


def test_cancel():
    with pretended(**{"v1_studies_s1:cancel": (200, {**STUDY, "state": "cancelled"})}) as peer:
        assert run(peer.address.url, "tune", "cancel", "s1")[:2] == (0, "s1  cancelled  2 ms\n")
        code, _, err = run(peer.address.url, "tune", "cancel", "s2")
        assert (code, "404" in err) == (1, True)


def test_delete():
    package = "0" * 64
    with pretended(v1_studies_s1=(204, None), **{f"v1_packages_{package}": (204, None)}) as peer:
        for what in ("s1", package):
            assert run(peer.address.url, "tune", "delete", what)[:2] == (0, f"{what} is deleted\n")
        assert [h[:2] for h in peer.heard] == [
            ("DELETE", "/v1/studies/s1"), ("DELETE", f"/v1/packages/{package}")]  # fmt: skip
    with pretended(v1_studies_s1=refused(409)) as peer:
        assert run(peer.address.url, "tune", "delete", "s1")[0] == 1


def test_drain():
    with pretended(**{"v1_workers_w1:drain": (204, None)}) as peer:
        assert run(peer.address.url, "worker", "drain", "w1")[:2] == (0, "w1 is being drained\n")
        assert peer.heard[0][:2] == ("POST", "/v1/workers/w1:drain")
    with pretended(**{"v1_workers_w1:drain": refused(403)}) as peer:
        assert run(peer.address.url, "worker", "drain", "w1")[0] == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_names_of_studies_can_not_draw(terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, color_system=None)
    odd = {**STUDY, "name": "[bold]x[/bold]\x1b[31m [link=http://y]z"}
    last = shown([odd, {**odd, "state": "done"}], console)
    assert last["state"] == "done"
    text = out.getvalue()
    assert "\x1b[31m" not in text
    assert "\x1b]8" not in text
    assert "bold" in text
    assert "done" in text
