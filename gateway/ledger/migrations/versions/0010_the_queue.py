"""Alerts that somebody has, with what was found and by which bulk decision; saved views, looks, and notifications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add columns to `alerts`, the tables `saved_views`, `looks`, `alert_events` and `channels`, and indexes."""
    for name in ("assignee", "finding", "batch"):
        op.add_column("alerts", sa.Column(name, sa.String))
    op.create_index("alerts_in_queue", "alerts", ["state", "account", "severity", "score", "opened", "id", "assignee"])
    op.create_index("ix_alerts_batch", "alerts", ["batch"])
    op.create_index("ix_alerts_opened", "alerts", ["opened"])
    op.create_index("ix_alerts_decided", "alerts", ["decided"])
    op.create_index("ix_enforcement_alert", "enforcement", ["alert"])
    op.create_table(
        "saved_views",
        sa.Column("operator", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("query", sa.String, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "looks",
        sa.Column("operator", sa.String, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "alert_events",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("alert", sa.String, nullable=False),
        sa.Column("severity", sa.String, nullable=False),
    )
    op.create_table(
        "channels",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("upto", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due", sa.BigInteger, nullable=False),
        sa.Column("error", sa.String),
        sa.Column("sent", sa.BigInteger),
    )
