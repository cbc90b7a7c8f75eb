"""The ladder of responses: decisions on several accounts, policies, appeals, revocable declared uses, contracts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the tables `policies` and `appeals`, and columns to `enforcement`, `declared_uses` and `accounts`."""
    op.add_column("enforcement", sa.Column("decision", sa.String))
    op.add_column("enforcement", sa.Column("begins", sa.BigInteger))
    op.add_column("enforcement", sa.Column("meanwhile", sa.String))
    op.add_column("enforcement", sa.Column("tokens_per_day", sa.BigInteger))
    op.add_column("enforcement", sa.Column("meanwhile_tokens", sa.BigInteger))
    op.add_column("enforcement", sa.Column("policy", sa.String))
    op.add_column("enforcement", sa.Column("cleared_by", sa.String))
    op.create_index("ix_enforcement_decision", "enforcement", ["decision"])
    op.add_column("declared_uses", sa.Column("granted_by", sa.String))
    op.add_column("declared_uses", sa.Column("revoked", sa.BigInteger))
    op.add_column("accounts", sa.Column("divert_named", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "policies",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("severity", sa.String, nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("leaked_tokens", sa.BigInteger),
        sa.Column("duration_s", sa.BigInteger, nullable=False),
        sa.Column("spread_s", sa.BigInteger, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.String, nullable=False),
        sa.Column("switched", sa.BigInteger),
        sa.Column("switched_by", sa.String),
        sa.Column("note", sa.String, nullable=False),
    )
    op.create_table(
        "appeals",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("alert", sa.String, nullable=False, index=True),
        sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), nullable=False, index=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("operator", sa.String, nullable=False),
        sa.Column("note", sa.String, nullable=False),
    )
