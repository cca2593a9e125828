"""The tables. Structured values are kept as JSON text; `seen`, `deadline` and `ready` are of the
service clock, `created` and `finished` are times of day in seconds since 1970. A `caller` is the id
of a token, empty for one that had none."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
Counter = BigInteger().with_variant(Integer, "sqlite")

facts = Table(
    "facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Double, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Column("revoked", Double),
)

studies = Table(
    "studies",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("kernel", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("recorded", Text),
    Column("shape", Text, nullable=False),
    Column("space", Text, nullable=False),
    Column("budget", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("sampler", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("device_kind", Text, nullable=False),
    Column("device_name", Text, nullable=False),
    Column("measured_on", Text),
    Column("measured_device", Text),
    Column("toolchain", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("confirm", Integer, nullable=False),
    Column("timeout", Double, nullable=False),
    Column("work", Text),
    Column("sources", Text, nullable=False),
    Column("winner", Text),
    Column("planned", Integer, nullable=False),
    Column("exhausted", Integer, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("created", Double, nullable=False),
    Column("finished", Double),
    Index("studies_by_state", "state", "priority"),
    Index("studies_by_tenant", "tenant", "created", "id"),
    Index("studies_by_family", "tenant", "family", "state"),
)

trials = Table(
    "trials",
    metadata,
    Column("id", Text, primary_key=True),
    Column("study", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("configs", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("failure", Text),
    Column("samples", Text),
    Column("time", Double),
    Column("attempts", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
    Column("avoid", Text),
    Column("avoid_caller", Text),
    Column("ready", Double, nullable=False),
    Column("worker", Text),
    Column("caller", Text),
    Column("cost", Double),
    Column("compiled", Double),
    Column("detail", Text, nullable=False),
    Column("device", Text),
    Column("toolchain", Text),
    Column("created", Double, nullable=False),
    Column("finished", Double),
    UniqueConstraint("study", "number"),
    Index("trials_by_state", "study", "state", "number"),
    Index("trials_by_time", "study", "state", "time", "number"),
)

leases = Table(
    "leases",
    metadata,
    Column("token", Counter, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("trial", Text, nullable=False),
    Column("study", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("started", Double, nullable=False),
    Column("deadline", Double, nullable=False),
    Column("late", Text),
    Index("leases_by_state", "state", "deadline"),
    Index("leases_by_worker", "tenant", "worker", "state"),
    Index("leases_by_study", "study", "state"),
    sqlite_autoincrement=True,
)

workers = Table(
    "workers",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("caller", Text, nullable=False, server_default=""),
    Column("state", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("toolchain", Text, nullable=False),
    Column("recorded", Text, nullable=False),
    Column("first", Double, nullable=False),
    Column("seen", Double, nullable=False),
    Column("done", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("measured", Double, nullable=False),
)

configs = Table(
    "configs",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("kernel", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("study", Text),
    Column("time", Double, nullable=False),
    Column("published", Text, nullable=False),
    Column("created", Double, nullable=False),
    Index("configs_by_kernel", "tenant", "kernel"),
)

events = Table(
    "events",
    metadata,
    Column("study", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("data", Text, nullable=False),
)

replies = Table(
    "replies",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request", Text, nullable=False),
    Column("reply", Text, nullable=False),
    Column("created", Double, nullable=False),
    Index("replies_by_age", "created"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created", Double, nullable=False),
)

packages = Table(
    "packages",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("created", Double, nullable=False),
)

blocked = Table(
    "blocked",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("kernel", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("toolchain", Text, primary_key=True),
    Column("config_digest", Text, primary_key=True),
    Column("config", Text, nullable=False),
    Column("created", Double, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Counter, primary_key=True, autoincrement=True),
    Column("tenant", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("created", Double, nullable=False),
    Index("audit_by_tenant", "tenant", "number"),
    sqlite_autoincrement=True,
)

uses = Table(
    "uses",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("study", Text, primary_key=True),
    Index("uses_by_study", "study"),
)
