"""One bot process: the loop with its HTTP side, from the first line on stdout to the exit code."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Final, Never

from bot.domain.events import Event, ShutdownRequested
from bot.engine.state import Release, State
from bot.runtime.exporter import Exporter
from bot.runtime.grant import GrantHolder
from bot.runtime.loop import Loop, Parts
from bot.runtime.operator_api import Json
from bot.runtime.rotation import KeyRotation
from bot.runtime.serving import Http, serve
from bot.runtime.status import checks_of, status_of

SELF_GRANT_TTL_S: Final = 5.0
SELF_GRANT_EVERY_S: Final = 1.0


class Process:
    """What the operator API sees, and what runs. `state`: the engine's, for reading."""

    def __init__(
        self,
        parts: Parts,
        state: State,
        exporter: Exporter,
        http: Http,
        *,
        grants_itself: bool,
        rotation: KeyRotation | None = None,
    ) -> None:
        """`rotation` None: the key stays for as long as the process."""
        self._parts = parts
        self.engine = parts.engine
        self._state = state
        self._exporter = exporter
        self._http = http
        self._grants_itself = grants_itself
        self._rotation = rotation
        self._loop = Loop(parts)
        self.tally = self._loop.tally
        self.grant: GrantHolder = parts.grant

    # ---- what the operator API needs -------------------------------------------------------------------------------

    def now_ns(self) -> int:
        return self._parts.clock.now_ns()

    def tell(self, event: Event) -> None:
        if isinstance(event, ShutdownRequested):
            self._loop.shut_down(event.reason)
        else:
            self._loop.tell(event)

    def cut_streams(self) -> int:
        return self._parts.cut_streams()

    @property
    def iterations(self) -> int:
        """Market updates that every symbol has had."""
        return self._loop.iterations

    def checks(self) -> dict[str, bool]:
        return checks_of(self._state)

    def metrics(self) -> bytes:
        self._parts.housekeeping.observe()
        return self._exporter.render()

    def status(self) -> Json:
        return status_of(self._state, self.grant, self._parts.started, self.now_ns())

    def release(self, release_id: str) -> Release | None:
        return self._state.releases.get(release_id)

    @property
    def release_expires_s(self) -> int:
        return self._state.parameters.release_expires_s

    # ---- running ---------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """The exit code. Raises CannotListen; then nothing was started."""
        runner, url = await serve(self, self._http)
        self._loop.begin()
        beside = [self._grant_itself()] if self._grants_itself else []
        if self._rotation is not None:
            beside.append(self._rotation.run())
        tasks = [asyncio.get_running_loop().create_task(work) for work in beside]
        for task in tasks:
            task.add_done_callback(self._ended)
        if url:
            print(json.dumps({"obs_url": url, "pid": os.getpid(), "run": self._parts.started.run}), flush=True)
        try:
            return await self._loop.run()
        finally:
            for task in tasks:
                task.cancel()
            if runner is not None:
                await runner.cleanup()
            self._parts.housekeeping.write_exports(self.now_ns(), last=True)

    def _ended(self, task: asyncio.Task[Never]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.failed(error, f"background task {task.get_name()}")

    async def _grant_itself(self) -> Never:
        """On the simulated venue and testnet alone: no guard, the configured limits, for trying things out."""
        parameters, epoch = self._state.parameters, self.grant.epoch_floor + 1
        while True:
            event = self.grant.take(
                self.grant.account,
                epoch,
                parameters.inventory_max_quote,
                parameters.total_max_quote,
                SELF_GRANT_TTL_S,
                self.now_ns(),
            )
            self._loop.tell(event)
            await asyncio.sleep(SELF_GRANT_EVERY_S)
