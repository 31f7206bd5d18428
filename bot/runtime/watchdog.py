"""The watchdog: outside guard and bot, with a venue session of its own. It expects their beats, and trusts no word.

A beat is an answer: of the bot's loop, that it answers at all; of the guard, that its beat has moved on since the last
look (a thread may answer for a loop that hangs). `missed_max` missed in a row, and the kill switch runs, in a process
of its own, again and again until it has proven that no own order stands; and again later while the beat stays away,
because whoever only hung may wake up. It is called off where the beats come back.

The kill switch is run for the whole account: one watchdog serves the rollouts of whatever plans its account has, and
one that was started again has been told of none of them.

The venue is looked at by REST and by socket. Where both are gone the bots that answer are told to hold.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp

from bot.runtime.beats import Beats, Source, expected, state_of
from bot.runtime.logs import Field, JsonLog
from bot.runtime.secrets import without_tokens
from bot.runtime.venue_watch import VenueWatch
from bot.runtime.watchdog_metrics import WatchdogMetrics

NAME: Final = "bot.runtime.watchdog"
GUARD_BEAT: Final = "rollout_guard_beat_timestamp_seconds "
AGAIN_S: Final = 10.0
RETRY_S: Final = 0.5
SWITCH_S: Final = 60.0
"""A run of the kill switch ends by itself well within this and its wait for what comes late; one that hangs is killed,
and the next one begins."""


class Settings(NamedTuple):
    """`beat_s`: between two looks; `answer_s`: how long one waits. `kill_switch`: the whole command."""

    account: str
    targets: Path
    beat_s: float
    answer_s: float
    missed_max: int
    auto_hold: bool
    kill_switch: Sequence[str]
    environment: Mapping[str, str]
    approve_token: str
    switch_s: float = SWITCH_S


class Watchdog:
    """One account's. `run` until `stop`."""

    def __init__(
        self,
        settings: Settings,
        session: aiohttp.ClientSession,
        venue: VenueWatch,
        metrics: WatchdogMetrics,
        log: JsonLog,
        wall_s: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._session = session
        self._venue = venue
        self._metrics = metrics
        self._log = log
        self._wall_s = wall_s
        self._beats = Beats(settings.missed_max)
        self._guard_said: dict[str, str] = {}
        self._sources: list[Source] = []
        self._state = "OK"
        self._switch: asyncio.Task[None] | None = None
        self._held: set[str] = set()
        """who has taken the word to hold since the venue went away"""
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self) -> None:
        """Looks on a fixed grid: a look that took long does not put off the next one."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while not self._stopped.is_set():
            await self._look()
            due_s = max(due_s + self._settings.beat_s, loop.time())
            try:
                async with asyncio.timeout_at(due_s):
                    await self._stopped.wait()
            except TimeoutError:
                continue
        if self._switch is not None:
            self._switch.cancel()
            await asyncio.gather(self._switch, return_exceptions=True)

    async def _look(self) -> None:
        readable = self._read_sources()
        answers, _ = await asyncio.gather(asyncio.gather(*map(self._beat, self._sources)), self._venue.look())
        beaten = {source.name: readable and answered for source, answered in zip(self._sources, answers, strict=True)}
        for name in self._beats.looked(beaten):
            self._log.write("ERROR", NAME, "beat_missed", {"of": name, "in_a_row": self._settings.missed_max})
        await self._act()
        self._metrics.show(self._wall_s(), self._state, self._beats.missed)

    def _read_sources(self) -> bool:
        """Who is expected now. Where nobody can say, whoever was expected before still is, and has missed a beat."""
        try:
            known = {source.name for source in self._sources}
            self._sources = expected(self._settings.targets, self._settings.account, known)
        except OSError as error:
            self._log.write("ERROR", NAME, "targets_unread", {"message": f"{self._settings.targets}: {error.strerror}"})
            return False
        return True

    async def _beat(self, source: Source) -> bool:
        if not source.url:
            return False
        path = "/metrics" if source.is_guard else "/api/ui/status"
        try:
            async with asyncio.timeout(self._settings.answer_s), self._session.get(source.url + path) as answer:
                text = await answer.text()
                if answer.status != 200:
                    return False
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False
        if source.is_guard:
            return self._has_moved(source, text)
        return True

    def _has_moved(self, source: Source, page: str) -> bool:
        said = next((line for line in page.splitlines() if line.startswith(GUARD_BEAT)), "")
        moved = bool(said) and said != self._guard_said.get(source.name)
        self._guard_said[source.name] = said
        return moved

    # ---- what is done -----------------------------------------------------------------------------------------------

    async def _act(self) -> None:
        settings, venue = self._settings, self._venue
        before, self._state = self._state, state_of(
            self._beats.missed.values(), settings.missed_max, venue.rest_failed, venue.socket_failed
        )  # fmt: skip
        if self._state != before:
            fields: dict[str, Field] = {"before": before, "after": self._state, "missed": ",".join(self._beats.gone)}
            fields |= {"rest_failed": str(venue.rest_failed), "socket_failed": str(venue.socket_failed)}
            level = "INFO" if self._state == "OK" else "WARNING" if self._state == "DEGRADED" else "ERROR"
            self._log.write(level, NAME, "watchdog_state", fields)
        gone = self._beats.gone
        if gone and self._switch is None:
            self._switch = asyncio.get_running_loop().create_task(self._kill(", ".join(gone)))
            self._switch.add_done_callback(self._switch_ended)
        elif not gone and self._switch is not None:
            self._log.write("WARNING", NAME, "kill_switch_called_off", {"message": "the beats are back"})
            self._switch.cancel()
            self._switch = None
        if min(venue.rest_failed, venue.socket_failed) < settings.missed_max:
            self._held.clear()
        elif settings.auto_hold:
            asked = [one for one in self._sources if not one.is_guard and one.name not in {*gone, *self._held}]
            await asyncio.gather(*map(self._hold, asked))

    def _switch_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.write("ERROR", NAME, "kill_switch_not_started", {"message": f"{type(error).__name__}: {error}"})
            self._switch = None  # the next look tries again

    async def _kill(self, of: str) -> None:
        """Runs the kill switch until it is proven, and again while the beats stay away. Ends by being cancelled."""
        while True:
            self._log.write("ERROR", NAME, "kill_switch_started", {"beats_of": of})
            code = await self._run_switch()
            self._metrics.ran("executed" if code == 0 else "failed")
            self._log.write("WARNING" if code == 0 else "ERROR", NAME, "kill_switch_ended", {"code": code})
            await asyncio.sleep(AGAIN_S if code == 0 else RETRY_S)

    async def _run_switch(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._settings.kill_switch,
            env=without_tokens(self._settings.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._settings.switch_s):
                return await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()
        finally:
            if process.returncode is None:
                os.kill(process.pid, signal.SIGTERM)

    async def _hold(self, source: Source) -> None:
        """Asked until it is taken. The venue is away, so nothing can be cancelled there; later people decide."""
        headers = {"Authorization": f"Bearer {self._settings.approve_token}"}
        body = {"reason": "watchdog AUTO_HOLD: the venue answers neither by REST nor by socket"}
        try:
            async with (
                asyncio.timeout(self._settings.answer_s),
                self._session.post(f"{source.url}/api/ui/hold", json=body, headers=headers) as answer,
            ):
                said = str(answer.status)
                if answer.status == 200:
                    self._held.add(source.name)
        except (aiohttp.ClientError, TimeoutError) as error:
            said = type(error).__name__
        self._log.write("WARNING", NAME, "auto_hold", {"of": source.name, "answer": said})
