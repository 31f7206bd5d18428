"""Notices through slack-sdk to a loopback receiver: each once, and an outage delays nothing but the notice."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.__main__ import main as rollout
from tasks.guard.__main__ import main as guard
from tasks.notify import BACK_OFF_S, WebhookUnusable, again_in_s, check_webhook, deliverer
from tasks.record_tables import Outbox
from tests.support.receiver import Receiver

pytestmark = pytest.mark.integration


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


GARBLED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a short body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok",
    "a refusal with a short body": b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nno",
    "no UTF-8": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\n\xff\xfe",
    "no status": b"HTTP/1.1 abc OK\r\n\r\n",
}


@pytest.mark.parametrize("answer", GARBLED.values(), ids=list(GARBLED))
def test_a_garbled_answer_is_an_error_to_try_again_and_tells_no_address(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            came, _ = listening.accept()
            with came:
                came.recv(65536)
                came.sendall(answer)
                came.shutdown(socket.SHUT_WR)
                came.recv(65536)

        serving = threading.Thread(target=serve)
        serving.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/services/secret-path"
        monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", url)
        error = deliver("x")
        serving.join()
    assert error
    assert "secret-path" not in error


def test_an_address_without_a_scheme_is_an_error_and_not_an_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", "hooks.slack.com/services/secret-path")
    error = deliver("x")
    assert error
    assert "secret-path" not in error + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "hooks.slack.com/services/secret-path",
        "ftp://hooks.slack.com/secret-path",
        "http://hooks.slack.com/secret-path",
        "https:///secret-path",
        "https://hooks.slack.com:99999/secret-path",
        "https://hooks.slack.com/secret-path\n",
        "https://[::1/secret-path",
    ],
)
def test_a_bad_address_is_refused_in_one_line_that_names_the_variable_and_not_its_value(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", url)
    with pytest.raises(WebhookUnusable, match=r"^SLIPWAY_SLACK_WEBHOOK: .*allowed: https://HOST/PATH") as caught:
        check_webhook()
    assert "secret-path" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "https://hooks.slack.com/services/T/B/x", "http://127.0.0.1:8080/services/x"])
def test_a_good_address_or_none_is_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", url)
    check_webhook()


def test_up_and_the_guard_refuse_a_bad_address_before_they_start_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLIPWAY_PROMETHEUS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", "secret-path")
    for refused in (lambda: rollout(["up"]), lambda: guard(["--account", "sim-1"])):
        assert refused() == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert "SLIPWAY_SLACK_WEBHOOK" in said[0]
        assert "secret-path" not in said[0]
    assert not (tmp_path / "home").exists()


def test_without_a_webhook_the_notice_goes_to_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SLIPWAY_SLACK_WEBHOOK", raising=False)
    with caplog.at_level("INFO", logger="slipway.notify"):
        assert deliver("[r/canary] promoted") == ""
    assert "[r/canary] promoted" in caplog.text


def test_the_back_off_grows_to_its_end_and_stays_there() -> None:
    assert [again_in_s(tries) for tries in (0, 1, 99)] == [BACK_OFF_S[0], BACK_OFF_S[1], BACK_OFF_S[-1]]
