"""A kill switch whose report cannot be written cancels all the same, says so, and claims no success."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bot.runtime.kill_switch_command import run_command
from bot.venues.bybit import calls
from tests.support.small_account import SYMBOL


class Venue(BaseHTTPRequestHandler):
    """One order of ours stands until a cancel-all."""

    open_now = True

    def do_GET(self) -> None:
        if self.path.startswith(calls.TIME):
            self._answer({"timeSecond": "1", "timeNano": "1700000000000000000"})
        elif self.path.startswith(calls.POSITIONS):
            self._answer({"list": [{"symbol": SYMBOL, "side": "", "size": "0"}]})
        else:
            self._answer({"list": [OWN] if type(self).open_now else []})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).open_now = False
        self._answer({"list": [{"orderId": "v-1"}]})

    def _answer(self, result: object) -> None:
        body = json.dumps({"retCode": 0, "retMsg": "OK", "result": result}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not on the terminal."""


OWN = {
    "symbol": SYMBOL, "orderId": "v-1", "orderLinkId": "slwq-1-1", "side": "Buy", "price": "1", "qty": "1",
    "cumExecQty": "0", "orderStatus": "New",
}  # fmt: skip


@pytest.fixture
def venue() -> Iterator[type[Venue]]:
    fresh = type("Fresh", (Venue,), {"open_now": True})
    with ThreadingHTTPServer(("127.0.0.1", 0), fresh) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        fresh.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
        try:
            yield fresh
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A report file that nobody can write, root included: its folder is a file."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "kill_switch.json"


def environ_of(venue: type[Venue]) -> dict[str, str]:
    key = {"BYBIT_API_KEY": "key-0123456789ab", "BYBIT_API_SECRET": "secret-0123456789"}
    return {**key, "MM_VENUE_REST_URL": venue.url, "EXCHANGE_ENV": "testnet"}  # type: ignore[attr-defined]


def test_where_its_report_cannot_be_written_it_cancels_all_the_same_and_ends_with_no_success(
    venue: type[Venue], nowhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--execute", "--symbols", SYMBOL, "--late-s", "0", "--quiet-s", "0.5", "--report", str(nowhere)]
    assert run_command(words, environ_of(venue)) == 1
    told, said = capfd.readouterr()
    assert not venue.open_now
    assert json.loads(told)["status"] == "executed", "what it proved is on stdout"
    assert said.startswith("kill-switch: the report cannot be written: ")


def test_a_look_alone_whose_report_cannot_be_written_is_bad_input(
    venue: type[Venue], nowhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["--symbols", SYMBOL, "--report", str(nowhere)], environ_of(venue)) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert venue.open_now
