"""A service for a browser to look at, and a study whose every free text is markup."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import uvicorn
from finished_studies import Past
from sqlalchemy import insert, update
from tuning_spaces import MAKERS

from tilec.runtime.cache.key import canonical
from tilec.serve.app import application
from tilec.serve.service import Service
from tilec.serve.setup import Setup
from tilec.serve.tables import trials, workers

EVIL = "<img src=x onerror=\"document.title='owned'\">"
SCRIPT = "</pre><script>document.title='owned'</script>{{7*7}}"
FORMULA = '=HYPERLINK("http://evil.example","x")'


class Running:
    """A service on a port of this machine, in a thread."""

    def __init__(self, folder: Path, *, anonymous: bool = True) -> None:
        setup = Setup(f"sqlite:///{folder / 'tilec.db'}", folder / "artifacts", anonymous=anonymous)
        self.service = Service(setup)
        config = uvicorn.Config(application(self.service), port=0, log_config=None, ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        end = time.monotonic() + 30
        while not self.server.started and time.monotonic() < end:
            time.sleep(0.02)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(20)


def hostile(service: Service) -> str:
    """A study whose every free text is markup. The API refuses some of it: a page must not care."""
    past = Past(service.database, MAKERS["product"](1), EVIL, budget=24).submit()
    past.details = {name: SCRIPT for name in past.details}
    past.run()
    bad = {"name": EVIL, "note": SCRIPT, "shape": canonical({EVIL: EVIL}),
           "device_name": EVIL, "state": "failed"}  # fmt: skip
    past.put(**bad)
    failed = {"state": "failed", "failure": "wrong_result", "samples": None, "time": None,
              "detail": FORMULA}  # fmt: skip
    for number, values in ((2, failed), (3, {"worker": EVIL})):
        mine = (trials.c.study == past.id, trials.c.number == number)
        said = update(trials).where(*mine).values(**values)
        service.database.write(lambda tx, said=said: tx.execute(said))
    row = {"tenant": "default", "worker": "w-evil", "state": "active", "kind": "cuda",
           "name": EVIL, "device": "0" * 64, "toolchain": EVIL, "recorded": "[]", "first": 0.0,
           "fingerprint": canonical({"kind": "cuda", "name": EVIL}), "seen": 0.0, "done": 0,
           "failed": 0, "measured": 0.0}  # fmt: skip
    service.database.write(lambda tx: tx.execute(insert(workers), row))
    return past.id
