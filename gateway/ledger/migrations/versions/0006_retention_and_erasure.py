"""Retention, legal holds, withdrawals and erasures, and the marks they leave on snapshots and students."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the tables `retention`, `holds`, `erasures` and `marks`, and `accounts.keep_text`."""
    op.add_column("accounts", sa.Column("keep_text", sa.Boolean, nullable=False, server_default=sa.true()))
    op.create_table(
        "retention",
        sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), primary_key=True),
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("text_days", sa.Integer),
        sa.Column("rows_days", sa.Integer),
        sa.Column("updated", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("account", sa.String, nullable=False, index=True),
        sa.Column("operator", sa.String, nullable=False),
        sa.Column("note", sa.String, nullable=False),
        sa.Column("placed", sa.BigInteger, nullable=False),
        sa.Column("released", sa.BigInteger),
    )
    op.create_table(
        "erasures",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("account", sa.String, nullable=False, index=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("begun", sa.BigInteger, nullable=False),
        sa.Column("finished", sa.BigInteger),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("receipt", sa.Text),
    )
    op.create_table(
        "marks",
        sa.Column("erasure", sa.String, sa.ForeignKey("erasures.id"), primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("reference", sa.String, primary_key=True),
        sa.Column("rows", sa.BigInteger, nullable=False),
    )
