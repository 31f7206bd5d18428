"""What a watchdog does until it is done: bots hold only once they have taken it, and a switch that hangs is killed."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
import time
from pathlib import Path

import aiohttp
from aiohttp import web

from bot.runtime.logs import JsonLog
from bot.runtime.watchdog import Settings, Watchdog


class Away:
    """A venue that is looked at in vain, or not."""

    def __init__(self) -> None:
        self.rest_failed = self.socket_failed = 9

    async def look(self) -> None:
        """As it was."""


class Shown:
    """Where the watchdog shows its state."""

    def show(self, _wall_s: float, state: str, _missed: object) -> None:
        self.state = state


class Bot:
    """Answers its beat; the word to hold with what `answers` has next."""

    def __init__(self, *answers: int) -> None:
        self.answers = [*answers]
        self.holds = 0

    def app(self) -> web.Application:
        async def status(_request: web.Request) -> web.Response:
            return web.json_response({"state": "RUNNING", "active_orders": {"BTCUSDT": 1}})

        async def hold(_request: web.Request) -> web.Response:
            self.holds += 1
            return web.json_response({}, status=self.answers.pop(0))

        app = web.Application()
        app.add_routes([web.get("/api/ui/status", status), web.post("/api/ui/hold", hold)])
        return app


def held(folder: Path, bot: Bot, *, looks: int, back_at: int = 99) -> str:
    """So many looks, the venue away but for one. What was logged."""

    async def run() -> str:
        runner = web.AppRunner(bot.app())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address = "{}:{}".format(*runner.addresses[0][:2])
        target = [{"targets": [address], "labels": {"account": "a", "run": "r-1"}}]
        (folder / "r-1.json").write_text(json.dumps(target))
        text, venue = io.StringIO(), Away()
        settings = Settings("a", folder, 1.0, 5.0, 3, True, ["false"], {}, "token")
        async with aiohttp.ClientSession(trust_env=False) as session:
            log = JsonLog((text,), time.time_ns)
            watchdog = Watchdog(settings, session, venue, Shown(), log, time.time)  # type: ignore[arg-type]  # enough
            for number in range(looks):
                venue.rest_failed = 0 if number == back_at else 9
                await watchdog._look()
        await runner.cleanup()
        return text.getvalue()

    return asyncio.run(run())


def test_a_bot_that_did_not_take_it_is_told_again_and_one_that_did_is_not(tmp_path: Path) -> None:
    bot = Bot(429, 500, 200)
    said = held(tmp_path, bot, looks=5)
    assert bot.holds == 3
    assert said.count('"event":"auto_hold"') + said.count('"event": "auto_hold"') == 3


def test_a_venue_that_goes_away_again_holds_again(tmp_path: Path) -> None:
    bot = Bot(200, 200)
    held(tmp_path, bot, looks=4, back_at=2)
    assert bot.holds == 2


def test_a_kill_switch_that_hangs_is_killed_and_did_not_prove_anything(tmp_path: Path) -> None:
    async def run() -> int:
        hangs = [sys.executable, "-c", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"]
        settings = Settings("a", tmp_path, 1.0, 5.0, 3, True, hangs, {}, "", switch_s=0.5)
        async with aiohttp.ClientSession() as session:
            log = JsonLog((io.StringIO(),), time.time_ns)
            watchdog = Watchdog(settings, session, Away(), Shown(), log, time.time)  # type: ignore[arg-type]  # enough
            return await watchdog._run_switch()

    assert asyncio.run(run()) == -signal.SIGKILL
