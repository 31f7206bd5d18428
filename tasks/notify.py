"""Delivers the outbox: to Slack where a webhook, or a token and a channel, is set, else to the log.

Each transition once; nothing waits for it.

The text carries the head of the record's chain, so that a record cut off later shows.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import URLError
from urllib.parse import urlsplit

from tasks.names import SLACK_VARIABLES
from tasks.record_tables import Outbox

log = logging.getLogger("slipway.notify")
TIMEOUT_S = 5
BACK_OFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
WEBHOOK, TOKEN, CHANNEL, API_URL = SLACK_VARIABLES
OF_THE_MESSAGE = ("msg_too_long", "msg_blocks_too_long", "no_text", "invalid_blocks", "message_limit_exceeded")
"""Slack's own words for what it will not take because of what it says."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ON_ITS_WAY = "on its way"
"""What stands as the error of a notice from before it is sent until its answer is written."""
UNANSWERED = "Slack did not answer"
UNREADABLE = "Slack's answer could not be read"
TOLD_AGAIN = " (told again: nobody knows whether it had arrived)"


class WebhookUnusable(Exception):
    """Slack cannot be reached as it is set. One line that names the variable and never its value, which is a secret."""


@dataclass(frozen=True)
class Delivery:
    """`error` empty: delivered. `about_this_one`: it is refused for what it says, so another may well get through."""

    error: str = ""
    about_this_one: bool = False


Deliver = Callable[[Outbox], Awaitable[Delivery]]


def is_given() -> bool:
    """Whether notices go to Slack."""
    return bool(os.environ.get(WEBHOOK) or os.environ.get(TOKEN))


def check_webhook() -> None:
    """Refuses what no notice could ever go by. Raises WebhookUnusable."""
    url, token, channel = (os.environ.get(name, "") for name in (WEBHOOK, TOKEN, CHANNEL))
    if url and not _is_address(url):
        raise WebhookUnusable(
            f"{WEBHOOK}: is not the address of a webhook; allowed: https://HOST/PATH, http:// on this machine alone, "
            "or unset (notices then go to the log)"
        )
    for name, value, other in ((CHANNEL, channel, TOKEN), (TOKEN, token, CHANNEL)):
        if not value and os.environ.get(other):
            raise WebhookUnusable(f"{name}: not given beside {other}; allowed: both, or neither")
    if token and url:
        raise WebhookUnusable(f"{TOKEN}: given beside {WEBHOOK}; allowed: one of them")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise WebhookUnusable(f"{TOKEN}: is not a token; allowed: letters, digits and signs without a blank")
    if (base := os.environ.get(API_URL, "")) and not (_is_address(base) and base.endswith("/")):
        raise WebhookUnusable(
            f"{API_URL}: is not the address of an API; allowed: https://HOST/PATH/, http:// on this machine alone"
        )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # an impossible port raises here
        printable = url.isascii() and url.isprintable() and " " not in url
        return printable and bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK))
    except ValueError:
        return False


def words(notice: Outbox) -> str:
    """What is sent. Without an answer, or where the guard died while it waited for one, nobody knows whether the notice
    has arrived; it is sent once more, for a notice must not be lost, and says so."""
    not_known = notice.error.startswith((ON_ITS_WAY, UNANSWERED, UNREADABLE))
    return notice.text + (TOLD_AGAIN if not_known else "")


def deliverer() -> Deliver:
    """Slack by SLIPWAY_SLACK_WEBHOOK, or by SLIPWAY_SLACK_TOKEN into SLIPWAY_SLACK_CHANNEL; else the log."""
    if token := os.environ.get(TOKEN, ""):
        return _by(_by_token(token, os.environ.get(CHANNEL, "")))
    url = os.environ.get(WEBHOOK, "")
    return _by(_by_webhook(url)) if url else _to_log


async def _to_log(notice: Outbox) -> Delivery:
    log.info("notice %s: %s", notice.kind, words(notice))
    return Delivery()


def _by(send: Callable[[str], Delivery]) -> Deliver:
    """`send` sends once: the SDK's own retry says a second time what was read, and not answered, the first time."""
    # Its own log lines carry what failed in full, the address or the token among it; a failure is told by `attempt`.
    logging.getLogger("slack_sdk").setLevel(logging.CRITICAL)

    def attempt(text: str) -> Delivery:
        try:
            return send(text)
        # The address of a webhook is a secret: only the kind of error is told.
        except URLError as error:  # before the request was out
            return Delivery(f"Slack could not be reached: {type(error.reason).__name__}")
        except OSError as error:
            return Delivery(f"{UNANSWERED}: {type(error).__name__}")
        except (HTTPException, ValueError) as error:  # cut short, no HTTP, no UTF-8: what a proxy may answer
            return Delivery(f"{UNREADABLE}: {type(error).__name__}")

    async def deliver(notice: Outbox) -> Delivery:
        return await asyncio.to_thread(attempt, words(notice))

    return deliver


def _by_webhook(url: str) -> Callable[[str], Delivery]:
    from slack_sdk.webhook import WebhookClient

    client = WebhookClient(url, timeout=TIMEOUT_S, retry_handlers=[])

    def send(text: str) -> Delivery:
        answer = client.send(text=text)
        if answer.status_code == 200:
            return Delivery()
        about_this_one = answer.status_code in (400, 413)
        return Delivery(f"Slack answered HTTP {answer.status_code}: {answer.body[:100]}", about_this_one)

    return send


def _by_token(token: str, channel: str) -> Callable[[str], Delivery]:
    from slack_sdk import WebClient
    from slack_sdk.errors import SlackApiError, SlackClientError

    base_url = os.environ.get(API_URL) or WebClient.BASE_URL
    client = WebClient(token, base_url, timeout=TIMEOUT_S, retry_handlers=[])

    def send(text: str) -> Delivery:
        try:
            client.chat_postMessage(channel=channel, text=text)
        except SlackApiError as error:
            said = str(error.response.get("error") or "what is no answer of its API")[:100]
            return Delivery(f"Slack answered {said}", said in OF_THE_MESSAGE)
        except SlackClientError as error:
            return Delivery(f"{UNREADABLE}: {type(error).__name__}")
        return Delivery()

    return send


def again_in_s(attempts: int) -> float:
    """The back-off after that many failed attempts."""
    return BACK_OFF_S[min(attempts, len(BACK_OFF_S) - 1)]
