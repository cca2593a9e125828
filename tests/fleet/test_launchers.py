"""Devices and their locks, Slurm's batch files, what Ray must be, the commands."""

import os
import shlex
import subprocess

import pytest
from typer.testing import CliRunner

from tilec.cli import app
from tilec.fleet import actors
from tilec.fleet.device import Device, held
from tilec.fleet.recorded import TOOLCHAIN
from tilec.fleet.slurm import Array, script
from tilec.ir.errors import TileError


@pytest.fixture
def here(tmp_path):
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


@pytest.mark.parametrize("text", ["gpu", "cuda:x", "cuda:-1", "cpu:0", "recorded:a/b", "", "cpu\n"])
def test_words_that_are_no_device(text):
    with pytest.raises(TileError, match="no device"):
        Device.parsed(text)


def test_a_recorded_device_is_told_from_real_ones():
    device = Device.parsed("recorded:A100")
    assert device.fingerprint()["name"] == "A100"
    assert device.fingerprint()["driver"] == "recorded"
    assert device.toolchain() == TOOLCHAIN
    assert Device.parsed("cpu").toolchain() != TOOLCHAIN


def test_one_worker_on_a_device(here):
    cpu = Device.parsed("cpu")
    with held(cpu, "a", here):
        with pytest.raises(TileError, match="runs on this machine already"), held(cpu, "b", here):
            pass
        with held(Device.parsed("cuda:0"), "b", here), held(Device.parsed("cuda:1"), "c", here):
            pass
    with held(cpu, "b", here):
        pass


def test_a_lock_is_given_back_by_a_worker_that_dies(here):
    device = Device.parsed("recorded:x")
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with held(device, "a", here):
            os.write(told, b"x")
            os.kill(os.getpid(), 9)
    os.read(ready, 1)
    os.waitpid(child, 0)
    with held(device, "a", here), held(device, "b", here):
        pass


def test_a_gpu_is_the_same_under_all_its_numbers():
    first = Device.parsed("cuda:0").lock_name("w", {"CUDA_VISIBLE_DEVICES": "3"})
    assert first == Device.parsed("cuda:3").lock_name("w", {})
    assert first == Device.parsed("triton:1").lock_name("w", {"CUDA_VISIBLE_DEVICES": "2,3"})
    assert "/" not in Device.parsed("cuda:0").lock_name("w", {"CUDA_VISIBLE_DEVICES": "../x"})


def test_a_batch_file_is_a_shell_script_that_becomes_the_worker(tmp_path):
    text = script(Array("0-3%2", "4:00:00", partition="gpu", more=("--account=x",)),
                  ["--service", "https://h:1/a b"], "/x/it's")  # fmt: skip
    lines = text.splitlines()
    assert lines[0] == "#!/bin/sh"
    assert "#SBATCH --array=0-3%2" in lines
    assert "#SBATCH --signal=B:TERM@120" in lines
    assert "#SBATCH --account=x" in lines
    tool = tmp_path / "tilec"
    tool.write_text('#!/bin/sh\necho "$TILEC_TOKEN_FILE"\nfor a; do echo "$a"; done\n')
    tool.chmod(0o700)
    environment = {"PATH": f"{tmp_path}:{os.defpath}", "SLURM_ARRAY_JOB_ID": "7",
                   "SLURM_ARRAY_TASK_ID": "2"}  # fmt: skip
    said = subprocess.run(["/bin/sh"], input=text, env=environment, capture_output=True, text=True,
                          check=True).stdout.splitlines()  # fmt: skip
    assert said == ["/x/it's", "worker", "run", "--service", "https://h:1/a b", "--grace", "110",
                    "--name", "slurm-7-2"]  # fmt: skip


@pytest.mark.parametrize("bad", [
    {"indices": "0-3\n#SBATCH --x"}, {"indices": "a"}, {"time": "1;reboot"}, {"partition": "a b"},
    {"more": ("--wrap=$(id)",)}, {"name": "x\ny"}, {"cpus": 0}, {"before_s": 1},
])  # fmt: skip
def test_words_that_would_end_a_line_of_a_batch_file(bad):
    with pytest.raises(TileError):
        Array(**{"indices": "0-3", "time": "1:00:00", **bad})


def test_ray_must_authenticate(monkeypatch):
    with pytest.raises(TileError, match="token authentication is off"):
        actors.require({})
    with pytest.raises(TileError, match="token authentication is off"):
        actors.require({"RAY_AUTH_MODE": "disabled"})
    actors.require({"RAY_AUTH_MODE": "token"})
    monkeypatch.setattr(actors, "version", lambda name: "2.53.9")
    with pytest.raises(TileError, match=r"expected 2\.54"):
        actors.require({"RAY_AUTH_MODE": "token"})


def run(*words: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, list(words), env={"TILEC_SERVICE": "", "RAY_AUTH_MODE": ""})
    return found.exit_code, found.output


def test_commands_say_what_is_missing(tmp_path):
    assert run("worker", "run")[0] == 1
    assert "--service URL" in run("worker", "run")[1]
    assert "--service URL" in run("tune", "cancel", "s1")[1]
    assert "no device" in run("worker", "run", "--device", "x", "--service", "http://localhost")[1]
    code, text = run("worker", "run", "--device", "recorded:x", "--service", "http://localhost")
    assert (code, "go together" in text) == (1, True)
    assert "token authentication" in run("worker", "ray", "--service", "http://localhost")[1]
    assert "no sampler" in run("tune", "submit", "x", "--sampler", "best")[1]


def test_a_batch_file_is_printed():
    code, text = run("worker", "slurm", "--service", "https://h:1", "--token-file", "/x/token")
    assert code == 0
    assert shlex.split(text.splitlines()[-1])[:3] == ["exec", "tilec", "worker"]
    assert "TILEC_TOKEN_FILE=/x/token" in text
