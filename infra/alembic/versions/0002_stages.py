"""Stages of several parts, drills with their proof, and where a stage's own totals begin.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("stage_run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("part", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("part_from", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("predecessor_passed", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("baseline", sa.JSON(), nullable=False, server_default="[]"))
    with op.batch_alter_table("drill", schema=None) as batch_op:
        batch_op.add_column(sa.Column("part", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("proof", sa.JSON(), nullable=False, server_default="{}"))
    op.create_table(
        "stage_part",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("stage_run_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("symbols", sa.JSON(), nullable=False),
        sa.Column("inventory_max_quote", sa.String(), nullable=False),
        sa.Column("total_max_quote", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("proof", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["stage_run_id"],
            ["stage_run.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("stage_part", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_stage_part_stage_run_id"), ["stage_run_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("stage_part", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_stage_part_stage_run_id"))

    op.drop_table("stage_part")
    with op.batch_alter_table("drill", schema=None) as batch_op:
        batch_op.drop_column("proof")
        batch_op.drop_column("part")
    with op.batch_alter_table("stage_run", schema=None) as batch_op:
        batch_op.drop_column("baseline")
        batch_op.drop_column("predecessor_passed")
        batch_op.drop_column("part_from")
        batch_op.drop_column("part")
