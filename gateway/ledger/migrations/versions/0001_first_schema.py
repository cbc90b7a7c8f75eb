"""First schema: the control plane as of version 0.1.

Column types are spelt out here and never imported from the tables' modules, because a migration must keep making the
schema of its own day: times are integer milliseconds, documents are JSON text, prices are nano-dollars.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TIME = sa.BigInteger
DOCUMENT = sa.Text


def upgrade() -> None:
    """Make every table; `revisions` gets its one row."""
    revisions = op.create_table(
        "revisions", sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", sa.Integer)
    )
    op.bulk_insert(revisions, [{"id": 1, "value": 0}])
    _create_accounts()
    _create_tables_of_accounts()
    _create_alerts()
    _create_people()
    _create_registry()


def downgrade() -> None:
    """Refuse: a schema only moves forward; a backup is the way back."""
    raise RuntimeError("the schema only moves forward: restore a backup to go back")


def _account() -> sa.Column[str]:
    return sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), nullable=False, index=True)


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("created", TIME, nullable=False),
        sa.Column("tier", sa.String, nullable=False),
        sa.Column("operator", sa.Boolean, nullable=False),
        sa.Column("payment", sa.String),
        sa.Column("signup_network", sa.String),
        sa.Column("labels", DOCUMENT),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("time", TIME, nullable=False, index=True),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False, index=True),
        sa.Column("detail", DOCUMENT, nullable=False),
    )


def _create_tables_of_accounts() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String, primary_key=True),
        _account(),
        sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("hint", sa.String, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("revoked", TIME),
        sa.Column("requests_per_minute", sa.Integer),
    )
    op.create_table(
        "consents",
        sa.Column("id", sa.String, primary_key=True),
        _account(),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("granted", TIME, nullable=False),
        sa.Column("withdrawn", TIME),
    )
    op.create_table(
        "declared_uses",
        sa.Column("id", sa.String, primary_key=True),
        _account(),
        sa.Column("use", sa.String, nullable=False),
        sa.Column("cap_per_day", sa.Integer),
        sa.Column("until", TIME),
        sa.Column("created", TIME, nullable=False),
    )
    op.create_table(
        "enforcement",
        sa.Column("id", sa.String, primary_key=True),
        _account(),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.Column("operator", sa.String, nullable=False),
        sa.Column("note", sa.String, nullable=False),
        sa.Column("alert", sa.String),
        sa.Column("cleared", TIME),
    )


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.String, primary_key=True),
        _account(),
        sa.Column("severity", sa.String, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("opened", TIME, nullable=False),
        sa.Column("updated", TIME, nullable=False),
        sa.Column("reasons", DOCUMENT, nullable=False),
        sa.Column("evidence", DOCUMENT, nullable=False),
        sa.Column("decided", TIME),
        sa.Column("decision", sa.String),
        sa.Column("operator", sa.String),
        sa.Column("note", sa.String),
    )


def _create_people() -> None:
    op.create_table(
        "operators",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("password_hash", sa.String, nullable=False),
        sa.Column("token_hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("created", TIME, nullable=False),
    )
    op.create_table(
        "snapshots",
        sa.Column("hash", sa.String, primary_key=True),
        sa.Column("task", sa.String, nullable=False),
        sa.Column("endpoint", sa.String, nullable=False),
        sa.Column("skeleton", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("requested_by", sa.String, nullable=False),
        sa.Column("report", DOCUMENT, nullable=False),
    )
    op.create_table(
        "approvals",
        sa.Column("snapshot", sa.String, primary_key=True),
        sa.Column("approver", sa.String, nullable=False),
        sa.Column("requested_by", sa.String, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("note", sa.String, nullable=False),
    )


def _create_registry() -> None:
    op.create_table(
        "registry",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("task", sa.String, nullable=False),
        sa.Column("endpoint", sa.String, nullable=False),
        sa.Column("skeleton", sa.String, nullable=False),
        sa.Column("snapshot", sa.String, nullable=False),
        sa.Column("teacher", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("created", TIME, nullable=False),
        sa.Column("parameters", sa.BigInteger, nullable=False),
        sa.Column("context_length", sa.Integer, nullable=False),
        sa.Column("licence", sa.String, nullable=False),
        sa.Column("training", DOCUMENT, nullable=False),
        sa.Column("url", sa.String),
        sa.Column("adequacy", sa.String),
        sa.Column("gate", DOCUMENT),
        sa.Column("input_price", sa.BigInteger),
        sa.Column("output_price", sa.BigInteger),
        sa.Column("price_basis", sa.String),
        sa.Column("promoted_by", sa.String),
    )
