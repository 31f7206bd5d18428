"""The embedded stack's Prefect server: as Prefect ships it, but whoever writes to its SQLite waits for the turn.

Most of Prefect's requests read and then write in one *deferred* transaction. SQLite refuses such a write at once, with
"database is locked" and whatever the busy timeout, when another connection wrote in between (SQLITE_BUSY_SNAPSHOT,
https://sqlite.org/rescode.html#busy_snapshot). Programs try again; a person in the browser sees an error, and on a busy
machine sees it several times in a row. An *immediate* transaction takes the write lock first and so waits for it, as
Prefect's own comment on its WAL mode advises and as its requests that set a state do.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from prefect.server.api.server import create_app as prefect_app
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import MODELS_DEPENDENCIES
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

_HOLDS_THE_LOCK: ContextVar[bool] = ContextVar("holds_the_lock", default=False)


class PatientSqlite(AioSqliteConfiguration):
    """Every transaction is immediate, but one begun inside another: that would wait for its own parent."""

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, with_for_update: bool = False
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """A transaction on `session`; with the write lock from its start, where no other is open in this task."""
        outermost = not _HOLDS_THE_LOCK.get()
        token = _HOLDS_THE_LOCK.set(True)
        try:
            async with super().begin_transaction(session, with_for_update or outermost) as transaction:
                yield transaction
        finally:
            _HOLDS_THE_LOCK.reset(token)


def create_app() -> Any:
    """The ASGI application, for `uvicorn --factory`. Another database than SQLite is left as Prefect has it."""
    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if url.startswith("sqlite"):
        MODELS_DEPENDENCIES["database_config"] = PatientSqlite(connection_url=url)
    return prefect_app()
