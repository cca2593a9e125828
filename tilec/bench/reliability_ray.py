"""Workers as Ray actors on one machine with pretended GPUs, killed in the middle of trials."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tilec.bench.reliability_fleet import (
    DEVICE,
    Fleet,
    Server,
    audited,
    left_over,
    request,
    synthetic,
    waited,
)
from tilec.bench.reliability_scenes import LIMIT_S, Outcome
from tilec.settings import settings
from tilec.tune.client.studies import Studies

# Two actors for two pretended GPUs; what they are is told on standard output.
LAUNCH = """
import json, sys, time, ray
from tilec.fleet import actors
told = json.loads(sys.argv[1])
actors.require(told["environment"])
ray.init(num_cpus=2, resources={"fakegpu": 2}, include_dashboard=False, log_to_driver=False)
crew = actors.crew(ray, actors.Crew(2, gpus=0, resources=(("fakegpu", 1.0),)))
def say(what, value):
    print(json.dumps([what, value]), flush=True)
def pids():
    while True:
        try:
            return ray.get([a.pid.remote() for a in crew])
        except ray.exceptions.RayActorError:  # it is being started
            time.sleep(0.5)
say("pids", pids())
for line in actors.run(ray, crew, told["orders"]):
    say("line", line)
    if "died" in line:
        say("pids", pids())
"""


def actor_killed(folder: Path, trials: int, kills: int) -> Outcome:
    """SIGKILL to actors while they measure; Ray starts them again."""
    space = synthetic(1.0)
    server = Server(folder, 3.0)
    fleet = Fleet(folder, server, space)  # for its folder of recorded spaces and its journal
    launcher: subprocess.Popen[bytes] | None = None
    try:
        server.start()
        study = Studies(server.address).submit(request(space, trials))["id"]
        launcher = _launched(folder, server)
        for i in range(kills):
            pid = _pids(folder)[i % 2]
            _holding(server, study, trials * (i + 1) // (kills + 2))
            os.kill(pid, signal.SIGKILL)
            _again(folder, pid)
        ended = waited(server, study, LIMIT_S)
        found = audited(server, study, trials, fleet.journal())
        died = sum("died" in str(v) for _, v in _told(folder))
        errors = (not ended) + (found.state != "done") + (died != kills)
        note = f"study {found.state}, {died} actors died and were started again"
        _end(launcher)
        orphans = found.orphans + left_over(folder)
        return Outcome(kills, found.trials, found.lost, found.duplicated, orphans, errors, note)
    finally:
        if launcher is not None:
            _end(launcher)
        server.stop()


def _launched(folder: Path, server: Server) -> subprocess.Popen[bytes]:
    """The process that has the actors."""
    shared = ["--service", server.address.url, "--device", DEVICE, "--wait", "2", "--recorded",
              str(folder / "recorded"), "--journal", str(folder / "journal")]  # fmt: skip
    nothing: dict[str, str] = {}
    names = [f"ray-{os.getpid()}-{i}" for i in range(2)]
    orders = [{"arguments": [*shared, "--name", n], "environment": nothing} for n in names]
    here = {**settings().environment, "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}  # fmt: skip
    told = json.dumps({"orders": orders, "environment": {"RAY_AUTH_MODE": "token"}})
    command = [sys.executable, "-c", LAUNCH, told]
    with (folder / "ray.log").open("wb") as out, (folder / "ray.err").open("wb") as err:
        return subprocess.Popen(command, stdout=out, stderr=err, env=here, start_new_session=True)


def _told(folder: Path) -> list[tuple[str, object]]:
    lines = (folder / "ray.log").read_text().splitlines()
    return [tuple(json.loads(x)) for x in lines if x.startswith("[")]


def _pids(folder: Path) -> list[int]:
    """The processes of the actors, once they are known."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        found = [v for w, v in _told(folder) if w == "pids"]
        if found:
            return list(map(int, found[-1]))  # type: ignore[call-overload]
        time.sleep(0.2)
    raise TimeoutError(f"Ray does not start: {(folder / 'ray.err').read_text()[-2000:]}")


def _holding(server: Server, study: str, done: int) -> None:
    """Wait until so many trials are done and two are under way."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        counts = Studies(server.address).study(study)["trials"]
        if counts["done"] >= done and counts["leased"] >= 2:
            return
        time.sleep(0.05)


def _again(folder: Path, pid: int) -> None:
    """Wait until the actors are others than this one."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until and pid in _pids(folder):
        time.sleep(0.2)


def _end(launcher: subprocess.Popen[bytes]) -> None:
    if launcher.poll() is not None:
        return
    launcher.terminate()
    try:
        launcher.wait(30)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
