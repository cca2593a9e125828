"""What compiling took, whose token workers and trials are of, what studies have files, an audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns, empty, and the tables."""
    op.add_column("trials", sa.Column("avoid_caller", sa.Text, nullable=True))
    op.add_column("trials", sa.Column("caller", sa.Text, nullable=True))
    op.add_column("trials", sa.Column("compiled", sa.Double, nullable=True))
    op.add_column("workers", sa.Column("caller", sa.Text, nullable=False, server_default=""))
    _audit()
    _uses()


def downgrade() -> None:
    """Drop what `upgrade` made."""
    op.drop_table("uses")
    op.drop_table("audit")
    op.drop_column("workers", "caller")
    for name in ("compiled", "caller", "avoid_caller"):
        op.drop_column("trials", name)


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_by_tenant", "audit", ["tenant", "number"], unique=False)


def _uses() -> None:
    op.create_table(
        "uses",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("study", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "digest", "study"),
    )
    op.create_index("uses_by_study", "uses", ["study"], unique=False)
