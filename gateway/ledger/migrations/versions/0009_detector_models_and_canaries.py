"""The models that the detector was given besides the shipped one, and its canaries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the tables `detector_models` and `canaries`."""
    op.create_table(
        "detector_models",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("adopted", sa.BigInteger),
        sa.Column("replaced", sa.String),
        sa.Column("operator", sa.String),
        sa.Column("note", sa.String),
    )
    op.create_table(
        "canaries",
        sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), primary_key=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("ran", sa.BigInteger),
        sa.Column("found", sa.BigInteger),
        sa.Column("requests", sa.Integer),
        sa.Column("seconds", sa.Float),
        sa.Column("problem", sa.String),
    )
