"""How the record is connected to: a SQLite file, or a PostgreSQL server; and what either needs where several write.

Both give the same promise: a transaction that writes has its writer's lock from its start, what it acknowledges is on
the disk, and whoever waits for a lock gets an error after `BUSY_TIMEOUT_MS` and no answer that is not true.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

BUSY_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 5
WRITERS = 7_305_810
"""PostgreSQL: the class of the advisory locks that writers hold, one a name."""
SQLITE, POSTGRESQL = "sqlite", "postgresql"
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def open_engine(url: str) -> Engine:
    """An engine on the record with the settings it needs. Creates the folder of a SQLite file, not its tables.

    Connects to nothing yet. Raises ArgumentError for an address that is neither SQLite's nor PostgreSQL's.
    """
    address = record_address(url)
    if address.get_backend_name() == SQLITE:
        if address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(address, json_serializer=_compact)
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
        return engine
    # A server that was away leaves dead connections behind: each is tried before it is used.
    engine = create_engine(
        address,
        isolation_level="READ COMMITTED",
        json_serializer=_compact,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "tcp_user_timeout": BUSY_TIMEOUT_MS,
            "client_encoding": "utf8",
        },
    )
    event.listen(engine, "connect", _on_postgresql_connect)
    event.listen(engine, "begin", _on_postgresql_begin)
    return engine


def record_address(url: str) -> URL:
    """The address, with the driver that is installed. Raises ArgumentError in words that tell no password."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise ArgumentError("no database URL") from None
    if address.drivername in (POSTGRESQL, "postgres", "postgresql+psycopg"):
        return address.set(drivername="postgresql+psycopg")
    if address.drivername == SQLITE:
        return address
    raise ArgumentError(f"{address.drivername}: allowed are sqlite:///PATH and postgresql://USER@HOST:PORT/DATABASE")


def without_password(url: str) -> str:
    """The address as it may be shown."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return "SLIPWAY_RECORD_URL"


def replacing(engine: Engine, model: Any) -> Any:
    """The insert of rows of that table that takes the place of those with the same key."""
    if engine.dialect.name == SQLITE:
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    statement = insert(model)
    table = model.__table__
    columns = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=columns)


def is_away(error: BaseException) -> bool:
    """Whether the database was busy or not there: the same again later may go well."""
    return isinstance(error, OperationalError) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def storable(value: Any) -> Any:
    """JSON of a stranger's, with what no database holds as a text (NUL, half of a surrogate pair) replaced."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {storable(name): storable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [storable(one) for one in value]
    return value


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _on_sqlite_connect(connection: Any, _: object) -> None:
    # The driver must not open transactions by itself: `begin` below chooses which kind.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once when another process wrote in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _writer(connection) else "BEGIN")


def _on_postgresql_connect(connection: Any, _: object) -> None:
    from psycopg.types.string import StrDumperUnknown

    class TextThatFits(StrDumperUnknown):
        """PostgreSQL holds no NUL in a text, SQLite does; a word of a stranger's must not stop the record."""

        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))

    connection.adapters.register_dumper(str, TextThatFits)
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {BUSY_TIMEOUT_MS}")
        # A writer that was frozen in the middle of a transaction loses its lock, and what it had not committed.
        cursor.execute(f"SET idle_in_transaction_session_timeout = {BUSY_TIMEOUT_MS}")
        # What a server may be configured to acknowledge too early.
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
        cursor.execute("SHOW server_encoding")
        (encoding,) = cursor.fetchone()
    connection.commit()
    if encoding != "UTF8":
        raise ArgumentError(f"database with encoding {encoding}: allowed is UTF8")


def _on_postgresql_begin(connection: Connection) -> None:
    # Each row that is read is the newest committed one, so two that read and then write would both go by the old one:
    # transactions of one writer come one after another, those of other accounts beside them.
    writer = _writer(connection)
    if writer:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (WRITERS, writer))


def _writer(connection: Connection) -> str:
    """Who writes, by name; empty for a transaction that only reads."""
    return str(connection.get_execution_options().get("slipway_writer", ""))
