"""What people and programs can learn of tilec at work: a log, stages of compiles, counters.

Nothing that is decided here or below depends on any of it: that is why it may be of the process.
"""

from __future__ import annotations

from tilec.observe.counts import CacheCounters, Counters, count, counters, fell_back
from tilec.observe.launches import enrolled, watching
from tilec.observe.log import DEBUG, ERROR, INFO, TOPICS, WARNING, escaped, say, start_as_asked
from tilec.observe.stages import KINDS, Compile, Stage, Total, compiling, listening, reported, stage

__all__ = [
    "DEBUG",
    "ERROR",
    "INFO",
    "KINDS",
    "TOPICS",
    "WARNING",
    "CacheCounters",
    "Compile",
    "Counters",
    "Stage",
    "Total",
    "compiling",
    "count",
    "counters",
    "enrolled",
    "escaped",
    "fell_back",
    "listening",
    "reported",
    "say",
    "stage",
    "start_as_asked",
    "watching",
]
