"""Delivers the outbox: to Slack where a webhook is set, else to the log. Each transition once; nothing waits for it.

The text carries the head of the record's chain, so that a record cut off later shows.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit

from tasks.record_tables import Outbox

log = logging.getLogger("slipway.notify")
TIMEOUT_S = 5
BACK_OFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
WEBHOOK = "SLIPWAY_SLACK_WEBHOOK"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ON_ITS_WAY = "on its way"
"""What stands as the error of a notice from before it is sent until its answer is written."""
TOLD_AGAIN = " (told again: its guard died while it was on its way)"


class WebhookUnusable(Exception):
    """The webhook's address cannot be one. One line that names the variable and never its value, which is a secret."""


@dataclass(frozen=True)
class Delivery:
    """`error` empty: delivered. `about_this_one`: it is refused for what it says, so another may well get through."""

    error: str = ""
    about_this_one: bool = False


Deliver = Callable[[Outbox], Awaitable[Delivery]]


def check_webhook() -> None:
    """Refuses an address that no notice could ever reach. Raises WebhookUnusable."""
    url = os.environ.get(WEBHOOK, "")
    if not url:
        return
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # an impossible port raises here
        printable = url.isascii() and url.isprintable() and " " not in url
        good = printable and bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK))
    except ValueError:
        good = False
    if not good:
        raise WebhookUnusable(
            f"{WEBHOOK}: is not the address of a webhook; allowed: https://HOST/PATH, http:// on this machine alone, "
            "or unset (notices then go to the log)"
        )


def words(notice: Outbox) -> str:
    """What is sent. A guard that died while it waited for the answer cannot know whether the notice has arrived; the
    next one sends it once more, for a notice must not be lost, and says so."""
    return notice.text + (TOLD_AGAIN if notice.error == ON_ITS_WAY else "")


def deliverer() -> Deliver:
    """Slack by SLIPWAY_SLACK_WEBHOOK, else the log."""
    url = os.environ.get(WEBHOOK, "")
    return _slack(url) if url else _to_log


async def _to_log(notice: Outbox) -> Delivery:
    log.info("notice %s: %s", notice.kind, words(notice))
    return Delivery()


def _slack(url: str) -> Deliver:
    from slack_sdk.webhook import WebhookClient

    # Its own log lines carry what failed in full, the address among it; a failure is told by `send`.
    logging.getLogger("slack_sdk").setLevel(logging.CRITICAL)
    client = WebhookClient(url, timeout=TIMEOUT_S)

    def send(text: str) -> Delivery:
        try:
            answer = client.send(text=text)
        except OSError as error:
            # The address of a webhook is a secret: only the kind of error is told.
            return Delivery(f"Slack could not be reached: {type(error).__name__}")
        except (HTTPException, ValueError) as error:  # cut short, no HTTP, no UTF-8: what a proxy may answer
            return Delivery(f"Slack's answer could not be read: {type(error).__name__}")
        if answer.status_code == 200:
            return Delivery()
        about_this_one = answer.status_code in (400, 413)
        return Delivery(f"Slack answered HTTP {answer.status_code}: {answer.body[:100]}", about_this_one)

    async def deliver(notice: Outbox) -> Delivery:
        return await asyncio.to_thread(send, words(notice))

    return deliver


def again_in_s(attempts: int) -> float:
    """The back-off after that many failed attempts."""
    return BACK_OFF_S[min(attempts, len(BACK_OFF_S) - 1)]
