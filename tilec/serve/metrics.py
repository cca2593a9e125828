"""Figures for Prometheus: counted as things happen, and read from the database when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection, func, select

from tilec.observe import counters
from tilec.serve.clock import Clock
from tilec.serve.tables import leases, studies, trials, workers

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
RECENT_S = 60.0


class Process(Collector):
    """What `tilec.counters()` says of this process: its caches, its compiles, its fallbacks."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        found = counters()
        cache = asdict(found.cache)
        yield _family(
            "cache_hits", "Lookups answered by a cache on disk", "layer", cache.pop("hits")
        )
        yield _family("cache_events", "What caches on disk did else", "event", cache)
        ends = {"done": found.compiles, "failed": found.failures}
        yield _family("compiles", "Kernels made ready", "end", ends)
        yield _family("fallbacks", "Times that something plainer was taken", "instead_of",
                      found.fallbacks)  # fmt: skip


def _family(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"tilec_{name}", text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


class Metrics:
    """The figures of one server. What is of the whole database carries no name of a tenant."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(Process())

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"tilec_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"tilec_{name}", text, buckets=BUCKETS, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"tilec_{name}", text, labels, registry=self.registry)

        self.requests = counter("requests", "Requests answered", "method", "status")
        self.latency = histogram("request_seconds", "Time to answer a request")
        self.claims = histogram("claim_seconds", "Time to claim a trial, without waiting for one")
        self.plans = histogram("plan_seconds", "Time to propose trials")
        self.measured = counter("measured_seconds", "Time that workers spent on trials")
        self.compiled = counter("compiled_seconds", "Part of that in which they compiled")
        self.completed = counter("trials_completed", "Trials with times")
        self.failures = counter("trials_failed", "Trials without times", "failure")
        self.expired = counter("leases_expired", "Leases that ended without a word")
        self.late = counter("late_tokens", "Completions refused because they came late")
        self.lookups = counter("lookups", "Configs looked up", "found")
        self.queue = gauge("trials", "Trials by state of unfinished studies", "state")
        self.studies = gauge("studies", "Studies by state", "state")
        self.workers = gauge("workers", "Workers seen in the last minute")
        self.age = gauge("oldest_lease_seconds", "Age of the oldest lease")

    def request(self, method: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self.requests.labels(method if method in METHODS else "other", str(status)).inc()
        self.latency.observe(seconds)

    def page(self, tx: Connection, clock: Clock) -> bytes:
        """All figures in Prometheus' text format."""
        now = clock.now()
        open_ = select(trials.c.state, func.count()).join(
            studies, studies.c.id == trials.c.study).where(
            studies.c.state.in_(("queued", "running", "confirming")))  # fmt: skip
        counts = {s: n for s, n in tx.execute(open_.group_by(trials.c.state))}
        for state in ("pending", "leased", "done", "failed", "poison"):
            self.queue.labels(state).set(counts.get(state, 0))
        for state, n in tx.execute(select(studies.c.state, func.count()).group_by(studies.c.state)):
            self.studies.labels(state).set(n)
        recent = select(func.count()).select_from(workers).where(workers.c.seen > now - RECENT_S)
        self.workers.set(tx.execute(recent).scalar_one())
        first = select(func.min(leases.c.started)).where(leases.c.state == "active")
        oldest = tx.execute(first).scalar()
        self.age.set(0 if oldest is None else now - oldest)
        return generate_latest(self.registry)
