"""Studies and what belongs to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
TABLES = (
    "facts",
    "tokens",
    "studies",
    "trials",
    "leases",
    "workers",
    "configs",
    "events",
    "replies",
)


def upgrade() -> None:
    """Make the tables."""
    _facts()
    _tokens()
    _studies()
    _trials()
    _leases()
    _workers()
    _configs()
    _events()
    _replies()


def downgrade() -> None:
    """Drop the tables."""
    for name in reversed(TABLES):
        op.drop_table(name)


def _facts() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=True),
        sa.Column("revoked", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )


def _studies() -> None:
    op.create_table(
        "studies",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("kernel", sa.Text, nullable=False),
        sa.Column("family", sa.Text, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("recorded", sa.Text, nullable=True),
        sa.Column("shape", sa.Text, nullable=False),
        sa.Column("space", sa.Text, nullable=False),
        sa.Column("budget", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("sampler", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("device_kind", sa.Text, nullable=False),
        sa.Column("device_name", sa.Text, nullable=False),
        sa.Column("measured_on", sa.Text, nullable=True),
        sa.Column("measured_device", sa.Text, nullable=True),
        sa.Column("toolchain", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("confirm", sa.Integer, nullable=False),
        sa.Column("timeout", sa.Double, nullable=False),
        sa.Column("work", sa.Text, nullable=True),
        sa.Column("sources", sa.Text, nullable=False),
        sa.Column("winner", sa.Text, nullable=True),
        sa.Column("planned", sa.Integer, nullable=False),
        sa.Column("exhausted", sa.Integer, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("finished", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("studies_by_family", "studies", ["tenant", "family", "state"], unique=False)
    op.create_index("studies_by_state", "studies", ["state", "priority"], unique=False)
    op.create_index("studies_by_tenant", "studies", ["tenant", "created", "id"], unique=False)


def _trials() -> None:
    op.create_table(
        "trials",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("study", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("configs", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("failure", sa.Text, nullable=True),
        sa.Column("samples", sa.Text, nullable=True),
        sa.Column("time", sa.Double, nullable=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lost", sa.Integer, nullable=False),
        sa.Column("avoid", sa.Text, nullable=True),
        sa.Column("ready", sa.Double, nullable=False),
        sa.Column("worker", sa.Text, nullable=True),
        sa.Column("cost", sa.Double, nullable=True),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=True),
        sa.Column("toolchain", sa.Text, nullable=True),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("finished", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("study", "number"),
    )
    op.create_index("trials_by_state", "trials", ["study", "state", "number"], unique=False)


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column(
            "token",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("trial", sa.Text, nullable=False),
        sa.Column("study", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started", sa.Double, nullable=False),
        sa.Column("deadline", sa.Double, nullable=False),
        sa.Column("late", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("token"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("leases_by_state", "leases", ["state", "deadline"], unique=False)
    op.create_index("leases_by_study", "leases", ["study", "state"], unique=False)
    op.create_index("leases_by_worker", "leases", ["tenant", "worker", "state"], unique=False)


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("toolchain", sa.Text, nullable=False),
        sa.Column("recorded", sa.Text, nullable=False),
        sa.Column("first", sa.Double, nullable=False),
        sa.Column("seen", sa.Double, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("measured", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "worker"),
    )


def _configs() -> None:
    op.create_table(
        "configs",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kernel", sa.Text, nullable=False),
        sa.Column("family", sa.Text, nullable=False),
        sa.Column("study", sa.Text, nullable=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("published", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key"),
    )
    op.create_index("configs_by_kernel", "configs", ["tenant", "kernel"], unique=False)


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("study", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("study", "number"),
    )


def _replies() -> None:
    op.create_table(
        "replies",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("reply", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key"),
    )
    op.create_index("replies_by_age", "replies", ["created"], unique=False)
