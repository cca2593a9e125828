"""`tilec serve` as a process of its own, that a test may kill."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

CODE = "from tilec.cli import main; main()"
START_S = 180


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class Server:
    """A server on a folder. Started again, it has the same port and data."""

    folder: Path
    words: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    scheme: str = "http"
    process: Any = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        command = [sys.executable, "-c", CODE, "serve", "--port", str(self.port), "--data",
                   str(self.folder), *self.words]  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log,
                                            start_new_session=True)  # fmt: skip
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx.get(f"{self.url}/readyz", verify=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise TimeoutError(self.log.read_text())

    def command(self, *words: str) -> str:
        """What `tilec serve ...` prints."""
        command = [sys.executable, "-c", CODE, "serve", *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def kill(self) -> None:
        """As a power cut or the OOM killer would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """As an administrator would; the exit status."""
        self.process.terminate()
        return self.process.wait(30)

    def memory(self) -> int:
        """The resident bytes of the process."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(folder: Path, *words: str, scheme: str = "http") -> Iterator[Server]:
    server = Server(folder, words, scheme=scheme)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()
