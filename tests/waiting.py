"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable


def soon(holds: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether something holds within some seconds, looked at until it does."""
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.01)
    return bool(found)
