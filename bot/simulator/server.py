"""`mm-bot serve-venue`: the simulated venue as a process of its own. Any Bybit V5 client can drive it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import NoReturn

import msgspec
import uvloop
from aiohttp import web

from bot.capture import is_capture
from bot.domain.instrument import Category, Instrument
from bot.simulator.captured import load_captured
from bot.simulator.control import open_account
from bot.simulator.exchange import Exchange
from bot.simulator.fault_file import FaultFile, load_fault_file
from bot.simulator.faults import NS_PER_MS, FaultRefused
from bot.simulator.listings import GENERATED, LISTINGS, RECORDED, MarketOf, exchange_of, generated
from bot.simulator.loopback import Clock, LoopbackVenue
from bot.simulator.recorded import RecordedMarket, RecordUnreadable, load_record

TOKEN_ENV = "SLIPWAY_SIM_CONTROL_TOKEN"  # noqa: S105 - the variable's name
HOST = "127.0.0.1"
START_EQUITY_QUOTE = Decimal(100_000)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _BadInput(message)


class _BadInput(Exception):
    pass


def _whole(text: str, name: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise _BadInput(f"{name}: {text!r} is outside {low} to {high}")
    return int(text)


def _symbols(text: str, name: str, category: Category) -> list[Instrument]:
    """Instruments by their names with commas between them. Raises _BadInput for one that cannot be listed."""
    names = [symbol for symbol in text.split(",") if symbol]
    for symbol in names:
        if (category, symbol) not in LISTINGS:
            known = ", ".join(symbol for kind, symbol in LISTINGS if kind == category)
            raise _BadInput(f"{name}: {symbol!r} is not one of {known}")
    if len(set(names)) != len(names):
        raise _BadInput(f"{name}: {text!r} names one twice")
    return [LISTINGS[category, symbol].instrument for symbol in names]


def _market(text: str, step_ms: int) -> tuple[Instrument, MarketOf]:
    """What BTCUSDT is, and the market of each instrument: a record is of that one alone, the others are generated."""
    at_that_pace = partial(generated, step_ns=step_ms * NS_PER_MS)
    if text == "generated":
        return GENERATED, at_that_pace
    kind, _, path = text.partition(":")
    if kind != "recorded" or not path:
        raise _BadInput(f"--market: {text!r} is not generated or recorded:PATH")
    instrument = RECORDED
    try:
        if is_capture(Path(path)):
            instrument, record = load_captured(Path(path))
        else:
            record = load_record(Path(path))
    except RecordUnreadable as error:
        raise _BadInput(f"--market: {error}") from error
    print(
        f"record: {record.span_ms / 1000:.1f} s, {len(record.events)} events; "
        f"its collector's clock was off by {record.clock_offset_ms} ms",
        file=sys.stderr,
    )
    recorded = RecordedMarket(record)
    return instrument, lambda other, seed: recorded if other is instrument else at_that_pace(other, seed)


def _fault_plan(text: str) -> FaultFile | None:
    try:
        return load_fault_file(Path(text)) if text else None
    except FaultRefused as error:
        raise _BadInput(f"--faults: {error}") from error


async def _serve_until_signal(
    exchange: Exchange,
    clock: Clock,
    port: int,
    as_json: bool,
    accounts: int,
    address_requests_max: int,
    plan: FaultFile | None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    opened = [open_account(exchange, START_EQUITY_QUOTE, clock.now_ns()) for _ in range(accounts)]
    server = LoopbackVenue(exchange, os.environ.get(TOKEN_ENV, ""), clock, address_requests_max, plan)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, HOST, port)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise _BadInput(f"--port: cannot listen on {HOST}:{port}: {error.strerror or error}") from error
    bound: int = runner.addresses[0][1]
    ready = {
        "rest_url": f"http://{HOST}:{bound}",
        "ws_public_url": f"ws://{HOST}:{bound}/v5/public/linear",
        "ws_public_spot_url": f"ws://{HOST}:{bound}/v5/public/spot",
        "ws_private_url": f"ws://{HOST}:{bound}/v5/private",
        "ws_trade_url": f"ws://{HOST}:{bound}/v5/trade",
        "accounts": [{"api_key": account.api_key, "api_secret": account.api_secret} for account in opened],
    }
    line = msgspec.json.encode(ready).decode() if as_json else f"simulated venue ready on {ready['rest_url']}"
    print(line, flush=True)
    working = [asyncio.create_task(work) for work in (server.run_market(), server.run_plan())]
    stopped = asyncio.create_task(stop.wait())
    broken = asyncio.create_task(_first_failure(working))
    await asyncio.wait((broken, stopped), return_when=asyncio.FIRST_COMPLETED)
    await runner.cleanup()
    for task in (*working, broken, stopped):
        task.cancel()
    if broken.done() and not broken.cancelled():
        raise broken.result()


async def _first_failure(working: Sequence[asyncio.Task[None]]) -> BaseException:
    """Waits until one of them fails; none of them ever ends."""
    done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_EXCEPTION)
    return next(error for task in done if (error := task.exception()) is not None)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mm-bot serve-venue", description="A venue on loopback that matches and speaks Bybit V5.")
    text: Callable[..., object] = parser.add_argument
    text("--market", metavar="MARKET", default="generated", help="generated (default), or recorded:PATH of captures")
    text("--symbols", metavar="A,B", default="BTCUSDT", help="linear contracts (default: BTCUSDT)")
    text("--spot-symbols", metavar="A,B", default="", help="spot pairs (default: none)")
    text("--faults", metavar="FILE", default="", help="a plan of faults, as those in configs/faults")
    text("--port", metavar="PORT", default="0", help="0 to 65535, 0: any free one (default)")
    text("--json", action="store_true", help="the ready line as JSON, with keys of the accounts")
    text(
        "--step-ms",
        metavar="N",
        default="100",
        help="between two steps of a generated market, 10 to 60000; what happens in a second stays as likely, and many "
        "bots on a small machine have fewer messages to read (default: 100)",
    )
    text("--seed", metavar="N", default="1", help="of market and venue, 0 to 9223372036854775807 (default: 1)")
    text("--accounts", metavar="N", default="1", help="open from the start, sim-1, sim-2 …, 0 to 1000 (default: 1)")
    text(
        "--address-limit",
        metavar="N",
        default="0",
        help="requests one address may make in 5 s before it is shut out for 10 min, 0 to 1000000, on the real venue "
        "600; 0: everything here shares one address, so nobody counts (default)",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; 0 then, 2 for input that cannot be used (one line on stderr)."""
    try:
        args = _parser().parse_args(argv)
        port = _whole(args.port, "--port", 0, 65_535)
        accounts = _whole(args.accounts, "--accounts", 0, 1_000)
        seed = _whole(args.seed, "--seed", 0, 2**63 - 1)
        address_limit = _whole(args.address_limit, "--address-limit", 0, 1_000_000)
        plan = _fault_plan(args.faults)
        chosen = _symbols(args.symbols, "--symbols", "linear")
        if not chosen:
            raise _BadInput("--symbols: names no contract")
        first, market_of = _market(args.market, _whole(args.step_ms, "--step-ms", 10, 60_000))
        listed = [first if one is GENERATED else one for one in chosen]
        listed += _symbols(args.spot_symbols, "--spot-symbols", "spot")
        clock = Clock()
        exchange = exchange_of(listed, market_of, seed=seed, now_ns=clock.now_ns())
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_until_signal(exchange, clock, port, args.json, accounts, address_limit, plan))
    except _BadInput as error:
        print(f"serve-venue: {error}", file=sys.stderr)
        return 2
    return 0
