"""A real PostgreSQL cluster in a folder of its own, on a free port of loopback; never the machine's own service.

    with postgres() as server:
        record = open_record(server.database())

It may be killed, frozen and started again on what it left. As root it runs as the user `postgres`, which PostgreSQL
demands; its folder is therefore no test's `tmp_path`, which is root's alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql
from sqlmodel import SQLModel

import tasks.record_tables  # noqa: F401 - the tables that are made
from tasks.record_engine import open_engine
from tests.support.bot_rig import wait_for

USER = "slipway"
SETTINGS = {"listen_addresses": "127.0.0.1", "shared_buffers": "16MB", "logging_collector": "off"}


class PostgresServer:
    """Its defaults hold where a crash would show: what it acknowledges is on the disk. `settings` are added to them."""

    def __init__(self, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slipway-postgres-"))
        self._as = _whose(self.folder)
        self._data = self.folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._settings = {**SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.folder), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._emptied: str | None = None
        options = ["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        subprocess.run([binary("initdb"), "--pgdata", str(self._data), *options],
                       cwd=self.folder, check=True, capture_output=True, **self._as)  # fmt: skip
        self.start()

    def url(self, database: str = "postgres") -> str:
        """For the record: SQLAlchemy's form, and the usual one."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def database(self, encoding: str = "UTF8") -> str:
        """A new empty database; its URL."""
        name = f"record_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
        return self.url(name)

    def emptied(self) -> str:
        """A database with the record's tables and not a row in them: one and the same each time, so a matter of ms."""
        if self._emptied is None:
            self._emptied = self.database()
            engine = open_engine(self._emptied)
            SQLModel.metadata.create_all(engine)
            engine.dispose()
            return self._emptied
        tables = list(reversed(SQLModel.metadata.sorted_tables))
        with psycopg.connect(self._emptied) as connection:
            connection.execute("SET lock_timeout = '10s'")
            for table in tables:
                # TRUNCATE would make each file anew: a second in all.
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name)))
                if "id" in table.columns:
                    connection.execute("SELECT setval(%s, 1, false)", (f"{table.name}_id_seq",))
        return self._emptied

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A connection around everything of ours, each statement by itself."""
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=5)

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers, what the disk holds recovered."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary("postgres"), "-D", str(self._data), *options],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._as,
            )  # fmt: skip
        wait_for("PostgreSQL answers", self._answers, deadline_s=30, every_s=0.05)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"PostgreSQL ended: {(self.folder / 'postgres.log').read_text()[-2000:]}")
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as a crash: the server and every process of it, each of which has a session of its own."""
        assert self._process is not None
        killed = self._all()
        for process in killed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(10)
        # One that lives on a moment holds the memory without which none starts anew.
        wait_for("PostgreSQL is gone", lambda: not any(_lives(one) for one in killed), every_s=0.02)

    def freeze(self) -> None:
        """SIGSTOP: it keeps its sockets open, and says nothing."""
        for process in self._all():
            process.suspend()

    def thaw(self) -> None:
        for process in self._all():
            process.resume()

    def _all(self) -> list[psutil.Process]:
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        return [server, *server.children(recursive=True)]

    def close(self) -> None:
        """Nothing of it is left."""
        if self.is_up():
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def postgres(**settings: str) -> Iterator[PostgresServer]:
    server = PostgresServer(**settings)
    try:
        yield server
    finally:
        server.close()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _whose(folder: Path) -> dict[str, Any]:
    """How a process of the server is started; the folder is made its user's."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def binary(name: str) -> str:
    """Where a program of PostgreSQL is: Debian keeps them beside one another by version, and out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    binary = str(found[-1]) if found else shutil.which(name)
    assert binary, f"{name}: not found; `infra/setup.sh browser` installs PostgreSQL"
    return binary
