"""A receiver of notices on loopback; its address is a secret, as that of a webhook is."""

from __future__ import annotations

import json
import secrets
from email.message import Message

from tests.support.loopback import LoopbackServer


class Receiver(LoopbackServer):
    """Stands where Slack would. `status`: what it answers; `refuses`: how many it refuses before that. `texts`: all
    that came, `taken`: what was answered with 200.

    `secret`: what makes its address one that nobody else knows.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.taken: list[str] = []
        self.status = 200
        self.refuses = 0
        self.secret = f"secret-path-{secrets.token_hex(12)}"
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}/services/{self.secret}"

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, bytes]:
        text = json.loads(body)["text"]
        self.texts.append(text)
        status = 500 if self.refuses else self.status
        if status == 200:
            self.taken.append(text)
        self.refuses = max(0, self.refuses - 1)
        return status, b"ok" if status == 200 else b"invalid_token"


class SlackApi(LoopbackServer):
    """Stands where Slack's Web API would, for a token and a channel. `says`: the error it answers; empty: it takes it.

    `status`: the HTTP status of every answer.
    """

    content_type = "application/json"

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        self.status, self.says = 200, ""
        self.token = f"xoxb-{secrets.token_hex(12)}"
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}/api/"

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, bytes]:
        message = json.loads(body)
        right = headers["Authorization"] == f"Bearer {self.token}"
        error = self.says if right and path == "/api/chat.postMessage" else "invalid_auth"
        self.messages.append((message["channel"], message["text"]))
        told = {"ok": False, "error": error} if error else {"ok": True, "ts": "1.2"}
        return self.status, json.dumps(told).encode()
