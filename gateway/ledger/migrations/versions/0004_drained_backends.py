"""Backends that an operator has taken out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table `drains`; times are integer milliseconds."""
    op.create_table(
        "drains",
        sa.Column("url", sa.String, primary_key=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("operator", sa.String, nullable=False),
        sa.Column("note", sa.String, nullable=False),
    )
