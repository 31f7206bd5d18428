"""Deterministic shadow as a process: as fast as it goes, or in real time where somebody watches.

With `--obs` (or without an end, `--iterations 0`) one interval of simulated time takes one of real time, so that
health, metrics and the operator's calls can be tried out. What is decided is the same either way.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from typing import Final

from bot.domain.events import Event, ShutdownRequested, Started
from bot.engine.state import Release
from bot.runtime.exporter import Exporter
from bot.runtime.grant import GrantHolder
from bot.runtime.operator_api import Json
from bot.runtime.serving import Http, serve
from bot.runtime.status import checks_of, status_of
from bot.shadow import Shadow, SimulatedClock

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class ShadowProcess:
    """What the operator API sees, and what runs. `iterations` 0: until stopped."""

    def __init__(
        self,
        shadow: Shadow,
        started: Started,
        clock: SimulatedClock,
        exporter: Exporter,
        http: Http,
        iterations: int,
        interval_s: float,
    ) -> None:
        self.shadow = shadow
        self.grant = GrantHolder(f"shadow-{started.run}")
        self._started = started
        self._clock = clock
        self._exporter = exporter
        self._http = http
        self._iterations = iterations
        self._interval_s = interval_s
        self._stop = ""
        self._asked = asyncio.Event()

    # ---- what the operator API needs ----

    def now_ns(self) -> int:
        return self._clock.now_ns()

    def tell(self, event: Event) -> None:
        if isinstance(event, ShutdownRequested):
            self._end(event.reason)
        else:
            self.shadow.tell(event)

    def cut_streams(self) -> int:
        """No order leaves and no socket is open."""
        return 0

    def checks(self) -> dict[str, bool]:
        return checks_of(self.shadow.engine.known)

    def metrics(self) -> bytes:
        return self._exporter.render()

    def status(self) -> Json:
        return status_of(self.shadow.engine.known, self.grant, self._started, self.now_ns())

    def release(self, release_id: str) -> Release | None:
        return self.shadow.engine.known.releases.get(release_id)

    @property
    def release_expires_s(self) -> int:
        return self.shadow.engine.known.parameters.release_expires_s

    # ---- running ----

    def run(self) -> int:
        """The exit code. Raises CannotListen; then nothing was started."""
        if self._http.host is not None or self._iterations == 0:
            return asyncio.run(self._paced())
        before = {number: signal.signal(number, lambda got, _frame: self._ask(got)) for number in SIGNALS}
        try:
            self.shadow.begin()
            while not self._over():
                self.shadow.iterate()
            return self.shadow.end(self._stop or "iterations done")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _over(self) -> bool:
        done = self._iterations > 0 and self.shadow.iterations >= self._iterations
        return bool(self._stop or self.shadow.failure) or done

    def _ask(self, number: int) -> None:
        self._end(signal.Signals(number).name)

    def _end(self, why: str) -> None:
        self._stop = self._stop or why
        self._asked.set()

    async def _paced(self) -> int:
        loop = asyncio.get_running_loop()
        runner, url = await serve(self, self._http)
        for number in SIGNALS:
            loop.add_signal_handler(number, self._ask, number)
        try:
            self.shadow.begin()
            if url:
                print(json.dumps({"obs_url": url, "pid": os.getpid(), "run": self._started.run}), flush=True)
            due = loop.time()
            while not self._over():
                due += self._interval_s
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), max(0.0, due - loop.time()))
                if not self._stop:
                    self.shadow.iterate()
            return self.shadow.end(self._stop or "iterations done")
        finally:
            if runner is not None:
                await runner.cleanup()
