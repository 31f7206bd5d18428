"""A receiver of notices on loopback; its address is a secret, as that of a webhook is."""

from __future__ import annotations

import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer


class Receiver:
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
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                text = json.loads(body)["text"]
                receiver.texts.append(text)
                status = 500 if receiver.refuses else receiver.status
                if status == 200:
                    receiver.taken.append(text)
                receiver.refuses = max(0, receiver.refuses - 1)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b"ok" if status == 200 else b"invalid_token")

            def log_message(self, format: str, *arguments: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/{self.secret}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class SlackApi:
    """Stands where Slack's Web API would, for a token and a channel. `says`: the error it answers; empty: it takes it.

    `status`: the HTTP status of every answer.
    """

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        self.status, self.says = 200, ""
        self.token = f"xoxb-{secrets.token_hex(12)}"
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                right = self.headers["Authorization"] == f"Bearer {api.token}"
                error = api.says if right and self.path == "/api/chat.postMessage" else "invalid_auth"
                api.messages.append((body["channel"], body["text"]))
                answer = {"ok": False, "error": error} if error else {"ok": True, "ts": "1.2"}
                self.send_response(api.status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, format: str, *arguments: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
