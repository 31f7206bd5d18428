"""The command line of the watchdog. Exit codes: 0 after SIGTERM, 1 failed, 2 bad input (one line on stderr)."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bot.command_line import Parser
from bot.runtime.clock import Clock
from bot.runtime.kill_switch_command import (
    CATEGORIES,
    ENVIRONMENTS,
    REPORT_PATH,
    add_blind,
    number_within,
    whole_within,
)
from bot.runtime.logs import open_log
from bot.runtime.secrets import OWN_KEY
from bot.venues.bybit.hosts import ANY_GATEWAY, BybitHosts, HostRefused, hosts_for, override_hosts

SECRETS: Final = ("BYBIT_API_KEY", "BYBIT_API_SECRET", *OWN_KEY, "APPROVE_TOKEN")
AUTO_HOLD: Final = "WATCHDOG_AUTO_HOLD"


def run_command(argv: Sequence[str] | None, environ: Mapping[str, str] | None = None) -> int:
    """Watches until SIGTERM or SIGINT."""
    environ = os.environ if environ is None else environ
    arguments = _parser().parse_args(argv)
    name = environ.get("EXCHANGE_ENV") or "live"
    try:
        if name not in ENVIRONMENTS:
            raise HostRefused(f"EXCHANGE_ENV={name!r} has no orders to watch over, allowed: {' '.join(ENVIRONMENTS)}")
        signed = arguments.gateway if ENVIRONMENTS[name] == "live" else ANY_GATEWAY
        hosts = override_hosts(hosts_for(ENVIRONMENTS[name], arguments.category), environ, signed_gateway=signed)
        if not arguments.targets.is_dir():
            raise NotADirectoryError(f"--targets: {arguments.targets} is no folder")
        if environ.get(AUTO_HOLD, "true").lower() not in ("true", "false", "1", "0"):
            raise ValueError(f"{AUTO_HOLD}={environ[AUTO_HOLD]!r}, allowed: true, false")
    except (HostRefused, OSError, ValueError) as error:
        print(f"watchdog: {error}", file=sys.stderr)
        return 2
    return asyncio.run(_watch(arguments, hosts, environ))


async def _watch(arguments: argparse.Namespace, hosts: BybitHosts, environ: Mapping[str, str]) -> int:
    import aiohttp

    from bot.runtime.venue_watch import VenueWatch
    from bot.runtime.watchdog import SWITCH_S, Settings, Watchdog
    from bot.runtime.watchdog_metrics import WatchdogMetrics

    log = open_log(None, Clock().now_ns, [environ.get(name, "") for name in SECRETS])
    token = environ.get("APPROVE_TOKEN", "")
    settings = Settings(
        account=arguments.account,
        targets=arguments.targets,
        beat_s=arguments.beat_s,
        answer_s=arguments.answer_s,
        missed_max=arguments.missed,
        auto_hold=bool(token) and environ.get(AUTO_HOLD, "true").lower() in ("true", "1"),
        kill_switch=_kill_switch(arguments),
        switch_s=arguments.late_s + SWITCH_S,
        environment=environ,
        approve_token=token,
    )
    metrics = WatchdogMetrics(arguments.account, arguments.targets)
    try:
        port = metrics.serve(arguments.obs_port)
    except OSError as error:
        print(f"watchdog: --obs-port: {arguments.obs_port} cannot be used ({error.strerror})", file=sys.stderr)
        return 2
    async with aiohttp.ClientSession(trust_env=False) as session:
        venue = VenueWatch(session, hosts, arguments.answer_s)
        watchdog = Watchdog(settings, session, venue, metrics, log, time.time)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, watchdog.stop)
        print(json.dumps({"obs_url": f"http://127.0.0.1:{port}", "pid": os.getpid()}), flush=True)
        try:
            await watchdog.run()
        finally:
            metrics.close()
            await venue.close()
    return 0


def _kill_switch(arguments: argparse.Namespace) -> list[str]:
    """Of the whole account: what stands there that nobody has told of is what nobody else would cancel."""
    command = [sys.executable, "-m", "bot", "kill-switch", "--execute", "--category", arguments.category]
    command += ["--late-s", str(arguments.late_s), "--foreign-orders", arguments.foreign_orders]
    command += ["--gateway", arguments.gateway]
    command += [word for folder in arguments.journal for word in ("--journal", str(folder))]
    return [*command, "--report", str(arguments.report), *(["--flatten"] if arguments.flatten else [])]


def _parser() -> Parser:
    parser = Parser(
        prog="watchdog", description="Expects the beats of guard and bots; runs the kill switch where they stay away."
    )
    parser.add_argument("--account", required=True, metavar="NAME", help="the venue account that is watched over")
    parser.add_argument(
        "--targets", type=Path, required=True, metavar="DIR", help="where guard and bots leave their addresses"
    )
    parser.add_argument(
        "--beat-s",
        type=number_within(0.1, 60.0),
        default=1.0,
        metavar="S",
        help="between two looks, 0.1 to 60 s (default: 1)",
    )
    parser.add_argument(
        "--answer-s",
        type=number_within(0.05, 10.0),
        default=0.8,
        metavar="S",
        help="for an answer, 0.05 to 10 s (default: 0.8)",
    )
    parser.add_argument(
        "--missed", type=whole_within(2, 60), default=4, metavar="N", help="beats in a row, 2 to 60 (default: 4)"
    )
    parser.add_argument("--flatten", action="store_true", help="also close positions, as the kill switch does")
    parser.add_argument("--category", choices=CATEGORIES, default="linear", help="whose orders (default: linear)")
    add_blind(parser)
    parser.add_argument(
        "--report",
        type=Path,
        default=REPORT_PATH,
        metavar="FILE",
        help=f"what the kill switch writes (default: {REPORT_PATH})",
    )
    parser.add_argument(
        "--obs-port",
        type=whole_within(0, 65535),
        default=0,
        metavar="PORT",
        help="0 to 65535, 0: any, printed (default)",
    )
    return parser
