"""The bot's command line as data: what can be typed, and one line for what cannot."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

USAGE_EXIT: Final = 2


class Parser(argparse.ArgumentParser):
    """argparse with exact flags, one-line errors and exit code 2."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # handed on as they came

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse, but the parser that meets an unknown word names it itself, with the flags that it takes."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flags = sorted(flag for action in self._actions for flag in action.option_strings if flag.startswith("--"))
            self.error(f"{unknown[0]!r} is not understood; allowed: {', '.join(flags)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(USAGE_EXIT)


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Only flags that were given end up in the namespace: a default is no flag. Values are checked by the schema."""
    text: Callable[..., object] = parser.add_argument
    on_off = argparse.BooleanOptionalAction
    text("--mode", choices=("shadow", "testnet", "live"), help="what may leave the process (default: shadow)")
    for mode in ("shadow", "testnet", "live"):
        text(f"--{mode}", action="store_true", help=f"mode {mode}")
    text("--network", action=on_off, help="speak to the venue (default: no)")
    text("--exchange", metavar="NAME", help="bybit (default); in shadow on public data also binance, okx, bitget")
    text("--profile", metavar="NAME", help="paper, testnet or live")
    text("--settings", metavar="FILE", help="the candidate's settings, YAML")
    text("--symbols", metavar="A,B", help="1 to 50 symbols, each once (default: BTCUSDT)")
    text("--symbol-filter", metavar="A,B", help="overrides --symbols")
    text("--iterations", metavar="N", help="market updates of every symbol, >= 0, 0: until stopped (default: 20)")
    text("--maker-only", action=on_off, help="never take liquidity (default: yes)")
    text("--post-only-offset-bps", metavar="BPS", help="behind the best price, 0 to < 10000 bps (default: 1.5)")
    text("--min-qty-pad", metavar="RATIO", help="times the venue's least quantity, 1 to 100 (default: 1.1)")
    text("--max-inv", metavar="QUOTE", help="inventory limit per symbol, > 0 to --max-total (default: 10000)")
    text("--max-total", metavar="QUOTE", help="inventory limit in total, > 0 to 1000000000 (default: 50000)")
    text("--edge-threshold", metavar="BPS", help="least edge to quote, 0 to < 10000 bps (default: 1.5)")
    text("--fill-rate", metavar="RATIO", help="chance of a fill, 0 to 1, shadow only (default: 0.8)")
    text("--latency-ms", metavar="MS", help="of an order, 0 to 60000 ms, shadow only (default: 100)")
    text("--durable-state", action="store_true", help="keep the journal (required on testnet and live)")
    text("--state-dir", metavar="DIR", help="where the journal is (default: artifacts/state)")
    text("--recover", action="store_true", help="continue the journal in the state folder")
    text("--recon-interval-s", metavar="S", help="between reconciliations, > 0 to 86400 s (default: 60)")
    text("--fee-maker-bps", metavar="BPS", help="of notional, 0 to < 10000 bps (default: 1.0)")
    text("--fee-taker-bps", metavar="BPS", help="of notional, 0 to < 10000 bps (default: 7.0)")
    text("--rebate-maker-bps", metavar="BPS", help="a maker gets back, 0 to < 10000 bps (default: 2.0)")
    text("--fee-profile", metavar="NAME", help="VIP0, VIP1, VIP2, VIP3 or MM_TIER_A, instead of the three above")
    text("--warmup-filters", action=on_off, help="read symbol filters first (testnet and live: always)")
    text("--obs", action="store_true", help="serve health, metrics and the operator API")
    text("--obs-host", metavar="HOST", help="127.0.0.1 (default), localhost or ::1")
    text("--obs-port", metavar="PORT", help="0 to 65535, 0: any, printed (default: 8080)")
    text("--report", metavar="FILE", help="where the run's report goes (default: stdout)")
    text("--log-file", metavar="FILE", help="log here as well as on stderr")
    text("--seed", metavar="N", help="of everything random, >= 0 (default: 0)")
    text("--grant", choices=("guard", "self"), help="self: on the simulated venue and testnet only (default: guard)")


def _add_reading_commands(commands: argparse._SubParsersAction[Parser]) -> None:
    """What only reads a state folder. All of them print a table, or JSON with `--json`."""
    trace = commands.add_parser("trace", help="everything the journal knows of one order")
    trace.add_argument("order", metavar="ORDER", help="its client order id")
    risk = commands.add_parser("risk", help="limits, how much of them is used, and the state")
    edge = commands.add_parser("edge-report", help="spread captured, markouts at 1/5/60 s, slippage, fees")
    for reading in (trace, risk, edge):
        reading.add_argument(
            "--state-dir",
            default="artifacts/state",
            metavar="DIR",
            help="where the journal is (default: artifacts/state)",
        )
    replay = commands.add_parser(
        "replay",
        help="a journal, or captured market data, through the engine again: the same intents, byte for byte",
        argument_default=argparse.SUPPRESS,
    )
    replay.add_argument("file", metavar="FILE", help="a journal, a capture (.gz), or the folder that holds them")
    _add_run_flags(replay)
    for reading in (trace, risk, edge, replay):
        reading.add_argument("--json", action="store_true", default=False, help="JSON instead of a table")


def build_parser() -> Parser:
    """The whole command line. Subcommands with a command line of their own take what follows as it is."""
    parser = Parser(prog="mm-bot", description="A market maker that would rather do nothing than lose count.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    run = commands.add_parser("run", help="quote", argument_default=argparse.SUPPRESS)
    _add_run_flags(run)
    check = commands.add_parser(
        "check-config", help="print the resolved configuration", argument_default=argparse.SUPPRESS
    )
    _add_run_flags(check)
    preflight = commands.add_parser(
        "preflight", help="check the account and its key before anything trades", argument_default=argparse.SUPPRESS
    )
    _add_run_flags(preflight)
    preflight.add_argument("--json", action="store_true", help="JSON instead of a table")
    rehearse = commands.add_parser(
        "rehearse",
        help="the whole bot against the simulated venue, in simulated time",
        argument_default=argparse.SUPPRESS,
    )
    _add_run_flags(rehearse)
    rehearse.add_argument("--span-s", metavar="S", help="simulated time, whole, 1 to 31622400 s (default: 600)")
    rehearse.add_argument(
        "--lane", choices=("wire", "kernel"), help="wire: the process as it is live (default: kernel)"
    )
    record = commands.add_parser(
        "record", help="keep a venue's public market data in a capture", argument_default=argparse.SUPPRESS
    )
    record.add_argument("file", metavar="FILE", help="the capture to be written, FILE.gz")
    record.add_argument("--duration-s", metavar="S", help="whole, 0 to 2678400 s, 0: until stopped (default: 60)")
    record.add_argument("--exchange", metavar="NAME", help="bybit (default), binance, okx, bitget")
    record.add_argument("--symbols", metavar="A,B", help="1 to 50 symbols, each once (default: BTCUSDT)")
    record.add_argument("--settings", metavar="FILE", help="for the venue's category, YAML")
    _add_reading_commands(commands)
    for name, text in {**FORWARDED, **NOT_BUILT}.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


FORWARDED: Final = {
    "serve-venue": "the simulated venue on loopback",
    "kill-switch": "cancel all own orders, and prove it",
    "secrets": "keys of venues: whoami, list, save, fetch, get, rotate",
    "watchdog": "expect the beats of guard and bots, and run the kill switch without them",
}
"""Subcommands that parse their own flags."""

NOT_BUILT: Final[dict[str, str]] = {}
"""Subcommands that are refused by name."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The namespace; exits with code 2 and one line for what is not understood."""
    return build_parser().parse_args(arguments)
