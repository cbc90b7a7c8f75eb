"""Limits of accounts, keys and models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table; money is nano-dollars, the time integer milliseconds."""
    op.create_table(
        "limits",
        sa.Column("subject", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("rpm", sa.Integer),
        sa.Column("tpm", sa.Integer),
        sa.Column("parallel", sa.Integer),
        sa.Column("usd_day", sa.BigInteger),
        sa.Column("usd_month", sa.BigInteger),
        sa.Column("max_output", sa.Integer),
        sa.Column("weight", sa.Integer),
        sa.Column("lane", sa.String),
        sa.Column("updated", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Refuse: a schema only moves forward; a backup is the way back."""
    raise RuntimeError("the schema only moves forward: restore a backup to go back")
