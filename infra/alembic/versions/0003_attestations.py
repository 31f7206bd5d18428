"""What people attest for a candidate before it may trade on live.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attestation",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("candidate", sa.String(), nullable=False),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("counts_as_wrong_code", sa.Boolean(), nullable=False),
        sa.Column("refused_reason", sa.String(), nullable=False),
        sa.Column("evidence_path", sa.String(), nullable=False),
        sa.Column("evidence_sha256", sa.String(), nullable=False),
        sa.Column("evidence_bytes", sa.BigInteger(), nullable=False),
        sa.Column("comment", sa.String(), nullable=False),
        sa.Column("inbox_id", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("attestation", schema=None) as batch_op:
        for column in ("account", "candidate", "item", "person"):
            batch_op.create_index(batch_op.f(f"ix_attestation_{column}"), [column], unique=False)
        batch_op.create_index(batch_op.f("ix_attestation_inbox_id"), ["inbox_id"], unique=True)


def downgrade() -> None:
    with op.batch_alter_table("attestation", schema=None) as batch_op:
        for column in ("inbox_id", "person", "item", "candidate", "account"):
            batch_op.drop_index(batch_op.f(f"ix_attestation_{column}"))
    op.drop_table("attestation")
