"""End users' opt-outs, several people's approvals of one snapshot, and the stage of a student's rollout."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the table `opt_outs` and `registry.rollout`; `approvals` has one row a snapshot and approver."""
    op.add_column("registry", sa.Column("rollout", sa.Text))
    op.create_table(
        "opt_outs",
        sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), primary_key=True),
        sa.Column("user", sa.String, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
    )
    op.rename_table("approvals", "approvals_of_one")
    op.create_table(
        "approvals",
        sa.Column("snapshot", sa.String, nullable=False),
        sa.Column("approver", sa.String, nullable=False),
        sa.Column("requested_by", sa.String, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("note", sa.String, nullable=False),
        # The table's former key keeps its name, approvals_pkey, until it is dropped.
        sa.PrimaryKeyConstraint("snapshot", "approver", name="approvals_by_approver"),
    )
    columns = "snapshot, approver, requested_by, time, note"
    op.execute(f"INSERT INTO approvals ({columns}) SELECT {columns} FROM approvals_of_one")
    op.drop_table("approvals_of_one")
