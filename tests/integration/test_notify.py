"""Notices through slack-sdk to a loopback receiver: each once, and an outage delays nothing but the notice."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tasks.notify import BACK_OFF_S, again_in_s, deliverer
from tasks.record_tables import Outbox

pytestmark = pytest.mark.integration


class Receiver:
    """Stands where Slack would. `status`: what it answers."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.texts.append(json.loads(body)["text"])
                self.send_response(receiver.status)
                self.end_headers()
                self.wfile.write(b"ok" if receiver.status == 200 else b"invalid_token")

            def log_message(self, format: str, *arguments: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/secret-path"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    made = Receiver()
    monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", made.url)
    yield made
    made.close()


def deliver(text: str) -> str:
    notice = Outbox(key="k", account="a", kind="go", text=text)

    async def work() -> str:
        return (await deliverer()(notice)).error

    return asyncio.run(work())


def test_a_notice_reaches_the_receiver_word_for_word(receiver: Receiver) -> None:
    assert deliver("[r/canary] GO (record abc)") == ""
    assert receiver.texts == ["[r/canary] GO (record abc)"]


def test_a_refusal_is_an_error_to_try_again_and_tells_no_address(receiver: Receiver) -> None:
    receiver.status = 403
    error = deliver("x")
    assert "403" in error
    assert "secret-path" not in error


def test_an_outage_is_an_error_that_tells_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", "http://127.0.0.1:9/services/secret-path")
    error = deliver("x")
    assert "could not be reached" in error
    assert "secret-path" not in error


def test_without_a_webhook_the_notice_goes_to_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SLIPWAY_SLACK_WEBHOOK", raising=False)
    with caplog.at_level("INFO", logger="slipway.notify"):
        assert deliver("[r/canary] promoted") == ""
    assert "[r/canary] promoted" in caplog.text


def test_the_back_off_grows_to_its_end_and_stays_there() -> None:
    assert [again_in_s(tries) for tries in (0, 1, 99)] == [BACK_OFF_S[0], BACK_OFF_S[1], BACK_OFF_S[-1]]
