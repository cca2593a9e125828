"""Connections that cost a client as much as the server: uvicorn's, with bounds on time and number.

A connection that has sent no whole head in time is ended. Where there are too many, the one that
has been idle for longest makes room; one that is being answered never does.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from tilec.serve.setup import Limits


def bounded(limits: Limits) -> type[H11Protocol]:
    """The protocol of a server's connections."""
    idle: dict[Connection, None] = {}  # in the order in which they fell idle

    class Bounded(Connection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.limits, self.idle = limits, idle

    return Bounded


class Connection(H11Protocol):
    """A connection, and the time until it must have sent the head of a request."""

    limits: Limits
    idle: dict[Connection, None]
    late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections and not self._make_room():
            transport.abort()
            return
        self.rest()

    def _make_room(self) -> bool:
        """End the connection that does least; whether there was one."""
        every = [c for c in self.connections if isinstance(c, Connection)]
        closing = [c for c in every if c.transport.is_closing()]
        found: list[Connection] = [*closing, *self.idle]
        if not found:
            return False
        gone = found[0]
        gone.leave()
        gone.transport.abort()
        self.connections.discard(gone)
        return True

    @property
    def answering(self) -> bool:
        """Whether a request is being read or answered."""
        return self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]

    def rest(self) -> None:
        """It is the client's turn, for so long."""
        self.leave()
        self.idle[self] = None
        self.late = self.loop.call_later(self.limits.header_s, self._too_late)

    def leave(self) -> None:
        """It is idle no longer."""
        self.idle.pop(self, None)
        if self.late is not None:
            self.late.cancel()
            self.late = None

    def _too_late(self) -> None:
        self.leave()
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.answering:
            self.leave()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.answering and not self.transport.is_closing():
            self.rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        super().connection_lost(exc)
