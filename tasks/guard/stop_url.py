"""The guard's own HTTP on loopback: `/metrics`, and `/stop`, an address and a button that end what runs.

Stopping needs neither Prefect nor the record nor a second person, only the operator's token of the account. It is
compared in constant time. Wrong ones are counted and throttled; a right one never is.
"""

from __future__ import annotations

import html
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass
from hmac import compare_digest
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

from tasks.account_file import AccountFileError

log = logging.getLogger("slipway.guard.stop_url")
PATH: Final = "/stop"
BODY_BYTES_MAX: Final = 16_384
LENGTH_DIGITS_MAX: Final = 9
WORD_MAX: Final = {"who": 80, "reason": 200}
NOT_LET_IN: Final = "wrong or missing token"
WRONG_MAX: Final = 10
WRONG_WITHIN_S: Final = 60.0
HOSTS: Final = ("127.0.0.1", "localhost")
"""What may stand in the Host header: a name that somebody else's page resolves to loopback may not."""

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class _Refused(Exception):
    """What is answered instead, in one line."""

    def __init__(self, status: HTTPStatus, said: str) -> None:
        super().__init__(said)
        self.status = status


@dataclass(frozen=True)
class Stopped:
    """What a stop led to. `what`: rollout/stage; where nothing runs the account, on which nothing that was under way
    begins a stage any more. `written`: the record has taken it."""

    what: str
    step: str
    written: bool


class Stopping(Protocol):
    """What the address does, from a thread of its own."""

    def token(self) -> str:
        """The operator's token, read anew each time. Raises AccountFileError."""

    def stop(self, who: str, reason: str) -> Stopped:
        """Ends what runs. Raises TimeoutError where the guard does not take it in time."""

    def refused(self, said: str) -> None:
        """Told of each try that is turned away."""


class StopUrl:
    """The WSGI application of `/stop`."""

    def __init__(self, stopping: Stopping, clock: Callable[[], float] = time.monotonic) -> None:
        self._stopping = stopping
        self._clock = clock
        self._wrong: deque[float] = deque()
        self._turn = threading.Lock()

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        form = str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded")
        try:
            _refuse_other_hosts(environ)
            if environ["REQUEST_METHOD"] == "GET":
                return _answer(start, HTTPStatus.OK, _PAGE.format(said=""), "text/html")
            if environ["REQUEST_METHOD"] != "POST":
                raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "allowed: POST to stop, GET for a page with the button")
            words = _form(_body(environ)) if form else _object(_body(environ))
            self._refuse_wrong_token(_bearer(environ) or words.get("token", ""))
            who, reason = _word(words, "who", "the address"), _word(words, "reason", "stopped by hand")
            status, told = self._stop(who, reason)
        except _Refused as error:
            log.warning("stop refused: %s", error)
            if error.status is not HTTPStatus.TOO_MANY_REQUESTS:  # a flood is told by its first ones
                self._stopping.refused(str(error))
            status, told = error.status, {"error": str(error)}
        if form:
            said = told.get("error") or f"{told['what']}: {told['step'].replace('_', ' ')}"
            return _answer(start, status, _PAGE.format(said=f"<p><b>{html.escape(said)}</b></p>"), "text/html")
        return _answer(start, status, json.dumps(told) + "\n", "application/json")

    def _stop(self, who: str, reason: str) -> tuple[HTTPStatus, dict[str, Any]]:
        try:
            stopped = self._stopping.stop(who, reason)
        except (TimeoutError, Late):
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the guard does not answer; use the kill switch") from None
        # Accepted: it holds already, though what is not written yet a guard that dies now would not know.
        status = HTTPStatus.OK if stopped.written else HTTPStatus.ACCEPTED
        return status, {"what": stopped.what, "step": stopped.step, "written": stopped.written}

    def _refuse_wrong_token(self, offered: str) -> None:
        try:
            token = self._stopping.token()
        except AccountFileError as error:
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
        if token and compare_digest(offered.encode(errors="surrogatepass"), token.encode()):
            return
        with self._turn:
            now_s = self._clock()
            while self._wrong and now_s - self._wrong[0] > WRONG_WITHIN_S:
                self._wrong.popleft()
            if len(self._wrong) >= WRONG_MAX:
                raise _Refused(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens, try again in a minute")
            self._wrong.append(now_s)
        raise _Refused(HTTPStatus.UNAUTHORIZED, NOT_LET_IN)


def routed(stop: App, otherwise: App) -> App:
    """One application of both."""

    def app(environ: Environ, start: StartResponse) -> Iterable[bytes]:
        return (stop if environ.get("PATH_INFO") == PATH else otherwise)(environ, start)

    return app


def _refuse_other_hosts(environ: Environ) -> None:
    given = str(environ.get("HTTP_HOST", ""))
    try:
        host = urlsplit(f"//{given}").hostname or ""
    except ValueError:
        host = given
    if host not in HOSTS:
        raise _Refused(HTTPStatus.FORBIDDEN, f"host {host[:60]!r}; allowed: {', '.join(HOSTS)}")


def _bearer(environ: Environ) -> str:
    scheme, _, offered = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    return offered.strip() if scheme.lower() == "bearer" else ""


def _body(environ: Environ) -> bytes:
    told = str(environ.get("CONTENT_LENGTH") or "0")
    if not told.isdecimal() or len(told) > LENGTH_DIGITS_MAX or int(told) > BODY_BYTES_MAX:
        raise _Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"body of {told[:20]} bytes; allowed: up to {BODY_BYTES_MAX}"
        )
    content: bytes = environ["wsgi.input"].read(int(told))
    return content


def _object(body: bytes) -> dict[str, str]:
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "body: allowed is a JSON object of who and reason, or none")
    return found


def _form(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}


def _word(words: Mapping[str, str], name: str, otherwise: str) -> str:
    said = words.get(name, "").encode(errors="replace").decode().strip() or otherwise
    if len(said) > WORD_MAX[name]:
        raise _Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"{name} of {len(said)} characters; allowed: up to {WORD_MAX[name]}"
        )
    return said


def _answer(start: StartResponse, status: HTTPStatus, content: str, kind: str) -> Iterable[bytes]:
    body = content.encode()
    headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
    headers += [("Cache-Control", "no-store"), ("X-Frame-Options", "DENY")]
    start(f"{status.value} {status.phrase}", headers)
    return [body]


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Stop trading</title></head>
<body style="font: 1.1rem/1.5 sans-serif; max-width: 32rem; margin: 2rem auto; padding: 0 1rem">
<h1>Stop trading</h1>{said}
<p>Revokes the permission to trade, stops the bot, cancels its orders, closes its position and proves each.</p>
<form method="post" action="stop">
<p><label>Operator token<br><input type="password" name="token" required autocomplete="off" size="40"></label></p>
<p><label>Your name<br><input name="who" maxlength="80" size="40"></label></p>
<p><label>Why<br><input name="reason" maxlength="200" size="40"></label></p>
<p><button style="font: inherit; padding: .4rem 1.5rem">Stop now</button></p>
</form></body></html>
"""
