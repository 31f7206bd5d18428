"""How the record is connected to: a SQLite file, or a PostgreSQL server; and what either needs where several write.

Both give the same promise: a transaction that writes has its writer's lock from its start, what it acknowledges is on
the disk, and whoever waits for a lock gets an error after `BUSY_TIMEOUT_MS` (of a SQLite file: and `TURN_PATIENCE_S`)
and no answer that is not true.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine import Connection, ExceptionContext
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError

BUSY_TIMEOUT_MS = 10_000
TURN_PATIENCE_S, WITHOUT_TURN_S = 5.0, 60.0
"""How long a writer of a SQLite file waits for its turn; and where it waited in vain, as behind one that is frozen, how
long it goes without."""
TURN_POLL_S = 0.01
CONNECT_TIMEOUT_S = 5
WRITERS = 7_305_810
"""PostgreSQL: the class of the advisory locks that writers hold, one a name."""
SQLITE, POSTGRESQL = "sqlite", "postgresql"
_without_until_s: dict[str, float] = {}
"""By file: until when this process asks for no turn."""
NO_TEXT = re.compile(r"Could not decode to UTF-8 column '(?P<column>\w+)'")
"""What Python's sqlite3 says of it, in Modules/_sqlite/cursor.c. What stands there is left out: it may be a code."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class RecordDamaged(DataError):
    """A column of the record holds what is no text: the same again later is no better. One line, by column and table.

    SQLite keeps whatever bytes are put in; the record's own writers only ever put in UTF-8.
    """

    def __init__(self, said: str, original: BaseException) -> None:
        super().__init__(None, None, original)
        self.said = said

    def __str__(self) -> str:
        return f"damaged: {self.said}"


def open_engine(url: str) -> Engine:
    """An engine on the record with the settings it needs. Creates the folder of a SQLite file, not its tables.

    Connects to nothing yet. Raises ArgumentError for an address that is neither SQLite's nor PostgreSQL's.
    """
    address = record_address(url)
    # What did not go into a table stands in no error either: a request holds a code that may still be good.
    hidden = {"hide_parameters": True}
    if address.get_backend_name() == SQLITE:
        if address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(address, json_serializer=_compact, **hidden)
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
        event.listen(engine, "handle_error", _on_sqlite_error)
        return engine
    # A server that was away leaves dead connections behind: each is tried before it is used.
    engine = create_engine(
        address,
        isolation_level="READ COMMITTED",
        json_serializer=_compact,
        pool_pre_ping=True,
        **hidden,
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


def sqlite_file(url: str) -> Path | None:
    """Where the record lies; None where it is a server's, or the address is none."""
    try:
        address = record_address(url)
    except ArgumentError:
        return None
    is_file = address.get_backend_name() == SQLITE and address.database
    return Path(str(address.database)) if is_file else None


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


def _on_sqlite_error(context: ExceptionContext) -> None:
    """Raises RecordDamaged for a text that is none: the driver's word for it is the one for a file that is locked."""
    no_text = NO_TEXT.match(str(context.original_exception))
    if no_text is None or not isinstance(context.original_exception, sqlite3.OperationalError):
        return
    column, execution = no_text["column"], context.execution_context
    statement = context.statement or str(getattr(execution, "statement", "") or "")
    table = re.search(rf'(\w+)"?\."?{re.escape(column)}\b', statement) or re.search(r'\bFROM "?(\w+)', statement)
    of = f" of {table[1]}" if table else ""
    raise RecordDamaged(f"column {column}{of} holds what is no text", context.original_exception)


def _on_sqlite_begin(connection: Connection) -> None:
    if not _writer(connection):
        connection.exec_driver_sql("BEGIN")
        return
    with _turn(connection.engine.url.database):
        # A deferred transaction that reads and then writes fails at once when another process wrote in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _turn(database: str | None) -> Iterator[None]:
    """While somebody waits for SQLite's lock, the others wait here, all alike.

    SQLite asks for it ever less often the longer it has waited: among twenty who write, newcomers take the lock again
    and again before one that has waited for seconds, until that one is told that the database is locked. It is no more
    than fairness: who gets no turn in time, or cannot ask for one, goes without, and for a while does not ask again.
    """
    turn = _asked_for_a_turn(database) if database and time.monotonic() >= _without_until_s.get(database, 0.0) else None
    try:
        yield
    finally:
        if turn is not None:
            os.close(turn)


def _asked_for_a_turn(database: str) -> int | None:
    """The descriptor that holds it; None where there is none to be had. Raises nothing."""
    turn = None
    try:
        turn = os.open(f"{database}-turn", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until_s = time.monotonic() + TURN_PATIENCE_S
        while time.monotonic() < until_s:
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(TURN_POLL_S)
            else:
                return turn
    except OSError:  # too many files, a full disk, a file of somebody else's: the write itself may go well
        pass
    if turn is not None:
        os.close(turn)
    _without_until_s[database] = time.monotonic() + WITHOUT_TURN_S
    return None


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
