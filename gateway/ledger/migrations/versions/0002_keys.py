"""Keys get an end, a scope, a family, and the name of the secret they were hashed with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; each key there is begins a family of its own, made with a secret of unknown name."""
    op.add_column("keys", sa.Column("expires", sa.BigInteger))
    op.add_column("keys", sa.Column("scope", sa.Text))
    op.add_column("keys", sa.Column("family", sa.String, nullable=False, server_default=""))
    op.add_column("keys", sa.Column("secret_name", sa.String))
    op.execute("UPDATE keys SET family = id")


def downgrade() -> None:
    """Refuse: a schema only moves forward; a backup is the way back."""
    raise RuntimeError("the schema only moves forward: restore a backup to go back")
