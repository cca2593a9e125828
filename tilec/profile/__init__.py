"""What calls of kernels take, beside what this machine can do: `with tilec.profile() as p: ...`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tilec.profile.recording import Recording

__all__ = ["Profile", "profile"]


class Profile(Recording):
    """The calls and the compiles that were seen. Times are in seconds, those of day
    time.perf_counter's."""

    def rows(self) -> list[Any]:
        """A line for each kernel and kind of arguments (`tilec.profile.report.Row`)."""
        from tilec.profile.report import rows

        return rows(self)

    def as_json(self) -> dict[str, Any]:
        """The rows, the compiles and this machine's ceilings, for a document."""
        from tilec.profile.report import document

        return document(self)

    def trace(self, path: Path | str) -> None:
        """Write the calls and the stages of compiles as a file that Perfetto and Chrome show.

        Raises TileError where it can't be written.
        """
        from tilec.profile.trace import write

        write(self, Path(path))

    def __str__(self) -> str:
        from tilec.profile.table import text

        return text(self)


@contextmanager
def profile() -> Generator[Profile]:
    """Record the calls of all kernels and programs of this process, in all threads.

    Read the profile when it is over: `print(p)`, `p.rows()`, `p.as_json()`, `p.trace(path)`. Calls
    of bound kernels (`kernel.bind`) are not seen. On a GPU each call is between two events in its
    stream, so do not capture a CUDA graph meanwhile. Raises TileError where a profile is on.
    """
    made = Profile()
    with made.on():
        yield made
