"""A real Redis server in a folder of its own, on a free port of loopback; never the machine's own service."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redis import Redis, RedisError

from tests.support.bot_rig import wait_for


class RedisServer:
    """With an append-only file that is written before each answer. It may be killed, frozen and started again."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._settings = {"appendonly": "yes", "appendfsync": "always", **settings}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client: Any = Redis.from_url(self.url, decode_responses=True, socket_timeout=5.0)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Returns when it answers, its file read."""
        options = [word for name, value in self._settings.items() for word in (f"--{name}", value)]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder),
                 "--save", "", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for("Redis answers", self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(10)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.client.close()


@contextlib.contextmanager
def redis_server(folder: Path, **settings: str) -> Iterator[RedisServer]:
    server = RedisServer(folder, **settings)
    try:
        yield server
    finally:
        server.close()
