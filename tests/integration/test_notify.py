"""Notices through slack-sdk to a loopback receiver: each once, and an outage delays nothing but the notice."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.__main__ import main as rollout
from tasks.guard.__main__ import main as guard
from tasks.notify import BACK_OFF_S, TOLD_AGAIN, Delivery, WebhookUnusable, again_in_s, check_webhook, deliverer, words
from tasks.record_tables import Outbox
from tests.support.slack_receiver import Receiver, SlackApi

pytestmark = pytest.mark.integration


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    made = Receiver()
    monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", made.url)
    yield made
    made.close()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackApi]:
    made = SlackApi()
    monkeypatch.delenv("SLIPWAY_SLACK_WEBHOOK", raising=False)
    monkeypatch.setenv("SLIPWAY_SLACK_TOKEN", made.token)
    monkeypatch.setenv("SLIPWAY_SLACK_CHANNEL", "#rollouts")
    monkeypatch.setenv("SLIPWAY_SLACK_API_URL", made.url)
    yield made
    made.close()


def delivery(text: str) -> Delivery:
    notice = Outbox(key="k", account="a", kind="go", text=text)

    async def work() -> Delivery:
        return await deliverer()(notice)

    return asyncio.run(work())


def deliver(text: str) -> str:
    return delivery(text).error


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


def _answer_once(listening: socket.socket, answer: bytes) -> None:
    came, _ = listening.accept()
    with came:
        came.recv(65536)
        came.sendall(answer)
        came.shutdown(socket.SHUT_WR)
        came.recv(65536)


@pytest.mark.parametrize("answer", GARBLED.values(), ids=list(GARBLED))
def test_a_garbled_answer_is_an_error_to_try_again_and_tells_no_address(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=_answer_once, args=(listening, answer))
        serving.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/services/secret-path"
        monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", url)
        error = deliver("x")
        serving.join()
    assert error
    assert "secret-path" not in error


@contextmanager
def silent() -> Iterator[tuple[int, list[bytes]]]:
    """The port of a receiver that reads whatever comes and hangs up without a word, and what came."""
    came: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                read = b""
                while b'"x"' not in read:
                    read += connection.recv(65536)
                came.append(read)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1], came


def test_what_was_read_and_not_answered_is_sent_once_a_try(api: SlackApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is sent again is the outbox's to decide, which knows what it has told."""
    with silent() as (port, came):
        monkeypatch.setenv("SLIPWAY_SLACK_API_URL", f"http://127.0.0.1:{port}/api/")
        assert deliver("x")
        assert len(came) == 1
        monkeypatch.delenv("SLIPWAY_SLACK_TOKEN")
        monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", f"http://127.0.0.1:{port}/services/secret-path")
        assert deliver("x")
        assert len(came) == 2


@pytest.mark.parametrize("away", [False, True], ids=["read", "not reached"])
def test_what_may_have_arrived_is_said_to_be_told_again(monkeypatch: pytest.MonkeyPatch, away: bool) -> None:
    """A notice that never left is told for the first time."""
    with silent() as (port, _):
        monkeypatch.setenv("SLIPWAY_SLACK_WEBHOOK", f"http://127.0.0.1:{9 if away else port}/services/secret-path")
        error = deliver("x")
    assert ("could not be reached" in error) is away
    assert words(Outbox(key="k", account="a", kind="go", text="x", error=error)) == "x" + ("" if away else TOLD_AGAIN)


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


def test_by_token_a_notice_reaches_its_channel_word_for_word(api: SlackApi) -> None:
    assert deliver("[r/canary] GO (record abc)") == ""
    assert api.messages == [("#rollouts", "[r/canary] GO (record abc)")]


@pytest.mark.parametrize(
    ("status", "says", "error", "about_this_one"),
    [
        (200, "channel_not_found", "Slack answered channel_not_found", False),
        (429, "ratelimited", "Slack answered ratelimited", False),
        (500, "fatal_error", "Slack answered fatal_error", False),
        (200, "msg_too_long", "Slack answered msg_too_long", True),
    ],
)
def test_by_token_a_refusal_is_told_by_slacks_own_word_and_without_the_token(
    api: SlackApi, status: int, says: str, error: str, about_this_one: bool, caplog: pytest.LogCaptureFixture
) -> None:
    api.status, api.says = status, says
    with caplog.at_level("DEBUG"):
        assert delivery("x") == Delivery(error, about_this_one)
    assert api.token not in caplog.text


def test_by_token_a_wrong_one_and_an_outage_are_errors_that_do_not_tell_it(
    api: SlackApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLIPWAY_SLACK_TOKEN", "xoxb-another-secret")
    with caplog.at_level("DEBUG"):
        assert deliver("x") == "Slack answered invalid_auth"
        monkeypatch.setenv("SLIPWAY_SLACK_API_URL", "http://127.0.0.1:9/api/")
        assert "could not be reached" in deliver("x")
    assert "another-secret" not in caplog.text


@pytest.mark.parametrize("answer", GARBLED.values(), ids=list(GARBLED))
def test_by_token_a_garbled_answer_is_an_error_to_try_again(
    api: SlackApi, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=_answer_once, args=(listening, answer))
        serving.start()
        monkeypatch.setenv("SLIPWAY_SLACK_API_URL", f"http://127.0.0.1:{listening.getsockname()[1]}/api/")
        error = deliver("x")
        serving.join()
    assert error
    assert api.token not in error


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"TOKEN": "xoxb-secret"}, "SLIPWAY_SLACK_CHANNEL: not given beside SLIPWAY_SLACK_TOKEN"),
        ({"CHANNEL": "#x"}, "SLIPWAY_SLACK_TOKEN: not given beside SLIPWAY_SLACK_CHANNEL"),
        ({"TOKEN": "xoxb secret", "CHANNEL": "#x"}, "SLIPWAY_SLACK_TOKEN: is not a token"),
        ({"TOKEN": "xoxb-secret", "CHANNEL": "#x", "WEBHOOK": "https://hooks/x"}, "SLIPWAY_SLACK_TOKEN: given beside"),
        ({"TOKEN": "xoxb-secret", "CHANNEL": "#x", "API_URL": "http://far/api/"}, "SLIPWAY_SLACK_API_URL: is not"),
    ],
)
def test_a_token_that_cannot_serve_is_refused_in_one_line_that_never_shows_it(
    given: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TOKEN", "CHANNEL", "WEBHOOK", "API_URL"):
        monkeypatch.setenv(f"SLIPWAY_SLACK_{name}", given.get(name, ""))
    with pytest.raises(WebhookUnusable) as caught:
        check_webhook()
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_good_token_with_its_channel_is_taken(api: SlackApi) -> None:
    check_webhook()


def test_the_back_off_grows_to_its_end_and_stays_there() -> None:
    assert [again_in_s(tries) for tries in (0, 1, 99)] == [BACK_OFF_S[0], BACK_OFF_S[1], BACK_OFF_S[-1]]
