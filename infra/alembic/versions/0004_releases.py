"""Two people's words on the release of a bot's stop, and where people see a stage run.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INDEXED = ("stage_run_id", "request_id", "person")


def upgrade() -> None:
    with op.batch_alter_table("stage_run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("link", sa.String(), nullable=False, server_default=""))
    op.create_table(
        "release",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("stage_run_id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("word", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("stop", sa.String(), nullable=False),
        sa.Column("consent", sa.Boolean(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("counts_as_wrong_code", sa.Boolean(), nullable=False),
        sa.Column("refused_reason", sa.String(), nullable=False),
        sa.Column("comment", sa.String(), nullable=False),
        sa.Column("inbox_id", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["stage_run_id"], ["stage_run.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("release", schema=None) as batch_op:
        for column in INDEXED:
            batch_op.create_index(batch_op.f(f"ix_release_{column}"), [column], unique=False)
        batch_op.create_index(batch_op.f("ix_release_inbox_id"), ["inbox_id"], unique=True)


def downgrade() -> None:
    with op.batch_alter_table("release", schema=None) as batch_op:
        for column in ("inbox_id", *INDEXED):
            batch_op.drop_index(batch_op.f(f"ix_release_{column}"))
    op.drop_table("release")
    with op.batch_alter_table("stage_run", schema=None) as batch_op:
        batch_op.drop_column("link")
