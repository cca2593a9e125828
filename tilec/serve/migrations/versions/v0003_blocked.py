"""Blocked configs, the sizes of packages, an index of trials by time."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from tilec.runtime.cache.key import canonical, digest

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table and fill it from the trials that are poison."""
    op.create_table(
        "blocked",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("kernel", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("toolchain", sa.Text, nullable=False),
        sa.Column("config_digest", sa.Text, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kernel", "device", "toolchain", "config_digest"),
    )
    _fill()
    op.add_column("packages",
                  sa.Column("size", sa.BigInteger, nullable=False, server_default="0"))  # fmt: skip
    op.execute("UPDATE packages SET size = length(document)")
    op.create_index("trials_by_time", "trials", ["study", "state", "time", "number"])


def downgrade() -> None:
    """Drop what `upgrade` made: trials that are poison stay poison."""
    op.drop_index("trials_by_time", "trials")
    op.drop_column("packages", "size")
    op.drop_table("blocked")


def _fill() -> None:
    tx = op.get_bind()
    poison = sa.text(
        "SELECT s.tenant, s.kernel, t.device, s.toolchain, t.configs, t.finished, t.created "
        "FROM trials t JOIN studies s ON s.id = t.study "
        "WHERE t.state = 'poison' AND t.purpose = 'measure' ORDER BY t.created")  # fmt: skip
    rows: dict[tuple[str, ...], dict[str, object]] = {}
    for r in tx.execute(poison):
        config = json.loads(r.configs)[0]
        key = (r.tenant, r.kernel, r.device or "", r.toolchain, digest(config))
        rows.setdefault(key, {"config": canonical(config), "created": r.finished or r.created})
    names = ("tenant", "kernel", "device", "toolchain", "config_digest")
    texts = [sa.column(n, sa.Text) for n in (*names, "config")]
    table = sa.table("blocked", *texts, sa.column("created", sa.Double))
    found = [{**dict(zip(names, key, strict=True)), **row} for key, row in rows.items()]
    if found:
        tx.execute(sa.insert(table), found)
