"""The search for planted secrets finds them wherever they are put: a search that finds nothing must mean something."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import os
import secrets
import sqlite3
import subprocess
import sys
import tarfile
import urllib.parse
import zipfile
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from tasks.state_folder import StateFolder
from tests.support.bot_rig import ROOT
from tests.support.planted import (
    command_lines_that_hold,
    core_folders,
    cores_that_hold,
    dump_holds,
    files_that_hold,
    shown_secrets,
    stack_secrets,
)
from tests.support.postgres import PostgresServer
from tests.support.redis_server import redis_server

# New in every process: the search looks at all processes of the machine, and another run of these tests that shows its
# own secret on a command line must not be found here.
OF_THIS_PROCESS = secrets.token_hex(9)
SECRET = f"planted-secret-{OF_THIS_PROCESS}"
SEED = base64.b32encode(secrets.token_bytes(20)).decode()
WEBHOOK = f"https://hooks.example/services/T000/B000/{OF_THIS_PROCESS}"


def planted(name: str) -> str:
    return f"planted-{name}-{OF_THIS_PROCESS}"


@pytest.fixture
def home(tmp_path: Path) -> StateFolder:
    """A stack's folder with an account, an approver and a control token, and nothing shown."""
    folder = StateFolder(tmp_path / "home")
    folder.create()
    account = {"api_key": planted("key"), "api_secret": SECRET, "grant_token": planted("grant")}
    account_file = {**account, "approve_token": planted("approve"), "account": "sim-1"}
    (folder.accounts / "sim-1.json").write_text(json.dumps(account_file))
    (folder.retired_accounts / "sim-0.json").write_text(json.dumps({**account, "api_secret": planted("retired")}))
    folder.seeds.write_text(json.dumps({"ada": SEED}))
    folder.control_token.write_text(planted("control-token") + "\n")
    return folder


def test_everything_that_a_stack_keeps_to_itself_is_looked_for(home: StateFolder) -> None:
    found = stack_secrets(home, {"webhook": WEBHOOK})
    assert set(found) == {
        "webhook", "sim-1 api_key", "sim-1 api_secret", "sim-1 grant_token", "sim-1 approve_token",
        "sim-0 api_key", "sim-0 api_secret", "sim-0 grant_token", "seed of ada", "control token",
    }  # fmt: skip
    assert shown_secrets(home, {"webhook": WEBHOOK}) == []
    for name, value in found.items():
        path = home.logs / "guard.log"
        path.write_text(f"said {value} of it")
        assert shown_secrets(home, {"webhook": WEBHOOK}) == [str(path)], name


def test_without_a_secret_to_look_for_it_does_not_say_that_none_is_shown(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    with pytest.raises(LookupError, match="no secret is kept there"):
        shown_secrets(folder)


def test_the_command_says_where_and_never_what(home: StateFolder) -> None:
    def told(**environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.acceptance.secrets"],
            cwd=ROOT, env={"PATH": os.environ["PATH"], "SLIPWAY_HOME": str(home.root), **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    assert told() == (0, f"secrets: 9 looked for under {home.root}, 0 places show one\n")
    (home.evidence / "page.html").write_text(f"<p>{WEBHOOK}</p>")
    code, said = told(SLIPWAY_SLACK_WEBHOOK=WEBHOOK)
    assert (code, said.splitlines()[0]) == (1, f"secrets: shown in {home.evidence / 'page.html'}")
    assert WEBHOOK not in said
    home.seeds.unlink()
    home.control_token.unlink()
    for path in home.accounts.rglob("*.json"):
        path.unlink()
    assert told() == (2, f"secrets: {home.root}: no secret is kept there\n")


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.log", b"some words " * 20 + content)
    return file.getvalue()


PLAIN = SECRET.encode()
ODD = "??>>~~planted??>>~~"
QUOTED = 'planted"and\\moreé'
TAGGED = "<planted>&'token'"
FORMS = {
    "as it is": (SECRET, PLAIN),
    **{f"base64 after {n} bytes": (SECRET, base64.b64encode(b"x" * n + PLAIN + b":grant")) for n in range(5)},
    "base64 of addresses": (ODD, base64.urlsafe_b64encode(b"k:" + ODD.encode())),
    "base64 in lines": (SECRET, base64.encodebytes(b"x" * 40 + PLAIN + b"y" * 40)),
    "hex": (SECRET, b"0x" + PLAIN.hex().encode()),
    "capital hex": (SECRET, PLAIN.hex().upper().encode()),
    "a query": (WEBHOOK, urllib.parse.urlencode({"to": WEBHOOK}).encode()),
    "a path": (WEBHOOK, urllib.parse.quote(WEBHOOK).encode()),
    "a query in small letters": (WEBHOOK, WEBHOOK.replace(":", "%3a").replace("/", "%2f").encode()),
    "JSON": (QUOTED, json.dumps({"token": QUOTED}).encode()),
    "JSON of letters": (QUOTED, json.dumps({"token": QUOTED}, ensure_ascii=False).encode()),
    "JSON of a page": (WEBHOOK, WEBHOOK.replace("/", "\\/").encode()),
    "a page": (TAGGED, html.escape(TAGGED).encode()),
    "gzip": (SECRET, gzip.compress(PLAIN)),
    "gzip that was cut off": (SECRET, gzip.compress(PLAIN)[:-9]),
    "gzip that was cut off late": (SECRET, gzip.compress(PLAIN + os.urandom(200_000).hex().encode())[:-100]),
    "gzip with a wrong sum": (SECRET, gzip.compress(PLAIN + os.urandom(200_000).hex().encode())[:-8] + b"\0" * 8),
    "gzip of a gzip": (SECRET, gzip.compress(gzip.compress(PLAIN))),
    "gzip in the middle": (SECRET, b"\0" * 50 + gzip.compress(PLAIN) + b"\0" * 50),
    **{f"zlib at level {level}": (SECRET, b"head" + zlib.compress(PLAIN * 3, level)) for level in (1, 4, 6, 9)},
    "zip": (SECRET, zipped(PLAIN)),
    "zip that was cut off": (SECRET, zipped(PLAIN)[:-60]),
    "zip in a gzip": (SECRET, gzip.compress(zipped(PLAIN))),
    "base64 in a zip": (SECRET, zipped(base64.b64encode(b"k=" + PLAIN))),
}
"""How a value may be written: the value, and what stands in a file."""


@pytest.mark.parametrize("how", FORMS)
def test_a_value_is_found_however_it_is_written(tmp_path: Path, how: str) -> None:
    value, written = FORMS[how]
    (tmp_path / "one.bin").write_bytes(b"before " + written)
    found = files_that_hold(tmp_path, [value])
    assert [Path(name).name.partition(":")[0] for name in found] == ["one.bin"]


def test_the_name_of_a_file_is_looked_at_too(tmp_path: Path) -> None:
    path = tmp_path / f"journal-{SECRET}.db"
    path.touch()
    assert files_that_hold(tmp_path, [SECRET]) == [str(path)]


def test_what_redis_keeps_is_found_in_its_folder(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        server.client.rpush("orders", "before", SECRET)
        server.kill()
    assert [Path(name).suffix for name in files_that_hold(tmp_path, [SECRET])] == [".aof"]


def test_what_a_database_of_a_server_keeps_is_found_in_its_dump(postgres_server: PostgresServer) -> None:
    database = postgres_server.database()
    assert not dump_holds(database, [SECRET])
    with postgres_server.connect(database.rpartition("/")[2]) as connection:
        # long and even: the server keeps it packed, and no search of its files would see it
        connection.execute("CREATE TABLE told (text TEXT)")
        connection.execute("INSERT INTO told VALUES (%s)", ((SECRET + " ") * 2_000,))
    assert dump_holds(database, [SECRET])


def test_text_base64_and_archives_are_looked_into(tmp_path: Path) -> None:
    (tmp_path / "one.log").write_text(f"x {SECRET} y")
    (tmp_path / "two.txt").write_bytes(base64.b64encode(SECRET.encode()))
    (tmp_path / "four.log.gz").write_bytes(gzip.compress(SECRET.encode()))
    with tarfile.open(tmp_path / "three.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "one.log", "inside.log")
    found = [Path(name).name for name in files_that_hold(tmp_path, [SECRET])]
    assert found == ["four.log.gz:0", "one.log", "three.tar.gz:inside.log", "two.txt"]


def test_a_value_across_two_pages_of_a_database_is_found(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute('CREATE TABLE "odd ""name""" (told TEXT)')
        for before in range(3_000, 3_600, 20):  # long enough that some value lies on the edge of a page
            database.execute('INSERT INTO "odd ""name""" VALUES (?)', ("x" * before + SECRET + "y" * 2_000,))
        database.commit()
        split = [row for row in range(1, 31) if _only_in_pieces(path, row, database)]
        assert split, "no value lies on the edge of a page"
        database.execute('DELETE FROM "odd ""name""" WHERE rowid != ?', split[:1])
        database.commit()
        database.execute("VACUUM")
    assert f'{path}:odd "name"' in files_that_hold(tmp_path, [SECRET])


def _only_in_pieces(path: Path, row: int, database: sqlite3.Connection) -> bool:
    """Whether that row alone, in a database of its own, is not found by its bytes."""
    (text,) = database.execute('SELECT told FROM "odd ""name""" WHERE rowid = ?', (row,)).fetchone()
    alone = path.with_suffix(f".{row}")
    with closing(sqlite3.connect(alone)) as other:
        other.execute("PRAGMA page_size = 512")
        other.execute("CREATE TABLE alone (told TEXT)")
        other.execute("INSERT INTO alone VALUES (?)", (text,))
        other.commit()
    held = SECRET.encode() in alone.read_bytes()
    alone.unlink()
    return not held


def test_a_row_that_only_the_write_ahead_file_holds_is_found(tmp_path: Path) -> None:
    path = tmp_path / "prefect.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE run_input (told TEXT)")
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("INSERT INTO run_input VALUES (?)", (SECRET,))
        database.commit()
        assert f"{path}:run_input" in files_that_hold(tmp_path, [SECRET])


def test_a_command_line_that_shows_one_is_found() -> None:
    words = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", SECRET]
    assert command_lines_that_hold([SECRET]) == []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it runs by its own words now
        found = command_lines_that_hold([SECRET])
        process.communicate()
    assert found == [f"/proc/{process.pid}/cmdline"]


@pytest.mark.parametrize(("pattern", "apart"), [("core", 0), ("{place}/%e.core.%p", 1), ("|/usr/bin/apport %p", 0)])
def test_an_image_of_a_dead_process_is_found_where_the_kernel_puts_it(
    home: StateFolder, tmp_path: Path, pattern: str, apart: int
) -> None:
    place = tmp_path / "cores"
    place.mkdir()
    folders = core_folders(home, pattern.format(place=place))
    assert (place in folders) is bool(apart)
    core = (place if apart else home.root) / "core.4711"
    core.write_bytes(b"\0" * ((1 << 24) - 10) + SECRET.encode() + b"\0" * 100)
    assert cores_that_hold(folders, [SECRET]) == [str(core)]
