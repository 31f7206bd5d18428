"""Alembic's entry: the record's address comes from SLIPWAY_RECORD_URL alone."""

from __future__ import annotations

import os

from alembic import context

from tasks.record_engine import open_engine
from tasks.record_tables import Account

url = os.environ.get("SLIPWAY_RECORD_URL", "")
if not url:
    raise SystemExit("SLIPWAY_RECORD_URL is not set: it names the record, for example sqlite:////path/rollout.db")

engine = open_engine(url)
with engine.execution_options(slipway_writer="migration").connect() as connection:
    context.configure(connection=connection, target_metadata=Account.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
