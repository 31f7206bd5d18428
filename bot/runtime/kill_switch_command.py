"""The command line of the kill switch: reads its input, runs it against the venue, leaves the report.

The report file says `failed` from before the first call until the end is proven, so that a run that was killed, or an
old report, is never taken for a success. Where it cannot be written, a run that executes says so on stderr, cancels and
proves all the same, and ends with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from bot.domain.instrument import Category
from bot.runtime.beats import SYMBOL
from bot.runtime.kill_switch import LATE_S, QUIET_S, KillSwitch
from bot.runtime.kill_switch_own_key import (
    REFUSALS,
    Choice,
    ChosenKey,
    KeyIncomplete,
    KeyRefused,
    Whose,
    own_pair,
    with_a_key_of_the_account,
)
from bot.runtime.kill_switch_report import NS_PER_S, Report, utc_text
from bot.runtime.kill_switch_trying import Sparing, until_proven
from bot.runtime.secret_backends import SECRET_ENVS, BackendRefused, open_secrets
from bot.runtime.secrets import KeyPair, Scrubber, SecretMissing, SecretsUnreadable
from bot.venues.bybit.hosts import ANY_GATEWAY, BybitHosts, Environment, HostRefused, hosts_for, override_hosts
from bot.venues.port import VenueError, VenueRefused

EXCHANGE: Final = "bybit"
STDOUT, STDERR = 1, 2
REPORT_PATH: Final = Path("reports/kill_switch/latest.json")
DEADLINE_RANGE_S: Final = (1.0, 600.0)
DEADLINE_S: Final = 20.0
"""By default, beyond the wait for what comes late."""
LATE_RANGE_S: Final = (0.0, 300.0)
QUIET_RANGE_S: Final = (0.5, 60.0)
BAND_RANGE_BPS: Final = (1, 1000)
ASK_S_MAX: Final = 2.0
"""For each call that asks whose a key is: cancelling waits for it."""
CATEGORIES: Final[tuple[Category, ...]] = ("linear", "spot")
ENVIRONMENTS: Final[dict[str, Environment]] = {"testnet": "testnet", "demo": "demo", "live": "live"}


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"kill-switch: {message}\n")


def run_command(argv: Sequence[str] | None, environ: Mapping[str, str] | None = None) -> int:
    """Runs the command. Exit code 0 proven or dry run, 1 not proven, 2 bad input (one line on stderr)."""
    environ = os.environ if environ is None else environ
    arguments = _parser().parse_args(argv)
    endless = arguments.deadline_s == 0
    try:
        environ = with_a_key_of_the_account(environ)
        hosts = _hosts(environ, arguments.category, arguments.gateway)
        secrets = open_secrets(environ, SECRET_ENVS[environ.get("EXCHANGE_ENV") or "live"])
        key = ChosenKey(secrets, EXCHANGE, own_pair(environ), patient=endless)
        if not arguments.execute:  # else it is said when it is written, and cancelling goes on without it
            _require_writable(arguments.report)
        _require_positions(arguments)
    except (HostRefused, KeyIncomplete, SecretMissing, SecretsUnreadable, BackendRefused, OSError, ValueError) as error:
        print(f"kill-switch: {error}", file=sys.stderr)
        return 2

    def tell(line: str) -> None:
        _put(STDERR, f"kill-switch: {key.scrubber.scrub(line)}")

    def keep(report: Report) -> bool:
        try:
            write_report(arguments.report, report, key.scrubber)
        except OSError as error:  # what is open at the venue is worse than a report that is not written
            tell(f"the report cannot be written: {error}")
            return False
        return True

    clock, say = _steady_clock(), Sparing(tell)
    keep(_unfinished(clock()))
    one = partial(_once, arguments, environ.get("MM_ACCOUNT", ""), hosts, key, clock, say)
    first_s = arguments.late_s + DEADLINE_S
    if endless:
        report = until_proven(one, first_s, tell, keep)
    else:
        report = one(first_s if arguments.deadline_s is None else arguments.deadline_s)
    kept = keep(report)
    _put(STDOUT, key.scrubber.scrub(msgspec.json.encode(report).decode()))
    return report.exit_code if kept else 1


def _once(
    arguments: argparse.Namespace,
    account: str,
    hosts: BybitHosts,
    key: ChosenKey,
    clock: Callable[[], int],
    say: Callable[[str], None],
    for_s: float,
) -> Report:
    """One run of the kill switch, of so many seconds at most, under the key of now."""
    begun_ns = clock()
    half_s = for_s / 2  # whoever has answered nothing by then shall not keep what can be cancelled from being it
    choice = key.for_a_try(partial(_whose, hosts, lambda: half_s - (clock() - begun_ns) / NS_PER_S), say)
    if choice is None:
        return _unfinished(clock(), "there is no key yet")
    run = partial(_under, arguments, account, hosts, begun_ns, clock, say, for_s)
    try:
        report = run(choice)
    except KeyRefused:
        instead = choice.instead
        if instead is None:  # then it is not raised
            raise
        say(instead.doubt or "the kill switch's own key is refused by now: going on with the account's")
        report = run(instead)
    if report.exit_code and arguments.deadline_s == 0:
        key.learn_owner(partial(_whose, hosts, lambda: ASK_S_MAX))
    return report


def _under(
    arguments: argparse.Namespace,
    account: str,
    hosts: BybitHosts,
    begun_ns: int,
    clock: Callable[[], int],
    say: Callable[[str], None],
    for_s: float,
    choice: Choice,
) -> Report:
    """The same under this key. Raises KeyRefused where the venue refuses it and there is another."""
    from bot.runtime.written_orders import orders_that_may_stand
    from bot.venues.bybit.account_client import AccountClient

    passed_s = (clock() - begun_ns) / NS_PER_S
    given = (hosts, choice.pair.api_key.reveal(), choice.pair.api_secret.reveal())
    refused = None if choice.instead is None else choice.refused
    with AccountClient(*given, category=arguments.category, renew_key=refused) as client:
        switch = KillSwitch(
            client,
            arguments.symbols,
            late_s=max(0.0, arguments.late_s - passed_s),
            band_bps=Decimal(arguments.band_bps),
            quiet_s=arguments.quiet_s,
            alone=arguments.foreign_orders == "cancel" and not choice.doubt,
            known=partial(orders_that_may_stand, arguments.journal, account),
            holds_positions=arguments.category != "spot",
            say=say,
        )
        flatten = arguments.flatten and not choice.doubt
        return choice.told(switch.run(arguments.execute, flatten, for_s, clock, time.sleep, passed_s))


def _whose(hosts: BybitHosts, left_s: Callable[[], float], pair: KeyPair) -> Whose:
    from bot.venues.bybit.account_client import AccountClient

    given = (hosts, pair.api_key.reveal(), pair.api_secret.reveal())
    try:
        with AccountClient(*given, timeout_s=ASK_S_MAX, call_s_max=ASK_S_MAX) as client, client.within(left_s):
            owner = client.key_information().user_id
    except VenueError as error:
        return Whose("", str(error), isinstance(error, VenueRefused) and error.code in REFUSALS)
    return Whose(str(owner)) if owner else Whose("", "the venue does not say whose it is")


def _put(descriptor: int, line: str) -> None:
    """One line, if it can be written: a log on a full disk ends no kill switch."""
    with contextlib.suppress(OSError):
        os.write(descriptor, line.encode() + b"\n")


def write_report(path: Path, report: Report, scrubber: Scrubber) -> None:
    """Replaces the report file in one step; a reader sees the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = scrubber.scrub(msgspec.json.format(msgspec.json.encode(report), indent=2).decode()) + "\n"
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _unfinished(started_ns: int, why: str = "not finished") -> Report:
    stamp = utc_text(started_ns)
    return Report("failed", stamp, stamp, 0, [], [], False, [why])


def _steady_clock() -> Callable[[], int]:
    """Wall time at start plus what the monotonic clock has counted since: it never steps."""
    start_ns = time.time_ns() - time.monotonic_ns()
    return lambda: start_ns + time.monotonic_ns()


def _hosts(environ: Mapping[str, str], category: Category, gateway: str) -> BybitHosts:
    name = environ.get("EXCHANGE_ENV") or "live"
    if name not in ENVIRONMENTS:
        raise HostRefused(f"EXCHANGE_ENV={name!r} has no orders to cancel, allowed: {' '.join(ENVIRONMENTS)}")
    signed = gateway if ENVIRONMENTS[name] == "live" else ANY_GATEWAY
    return override_hosts(hosts_for(ENVIRONMENTS[name], category), environ, rest_only=True, signed_gateway=signed)


def _require_writable(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"--report: {path.parent} cannot be written to")


def _require_positions(arguments: argparse.Namespace) -> None:
    if arguments.flatten and arguments.category == "spot":
        raise ValueError("--flatten: spot has no positions to close, allowed: with --category linear")


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="kill-switch", description="Cancel all own orders, flatten if asked, prove it. Dry run by default."
    )
    parser.add_argument("--execute", action="store_true", help="send cancels; without it nothing is sent")
    parser.add_argument("--flatten", action="store_true", help="also close positions, reduce-only, inside a band")
    text: Callable[..., object] = parser.add_argument
    seconds, bps = number_within, whole_within
    text("--symbols", type=symbols_of, default=(), metavar="A,B", help="these alone (default: the whole account)")
    text("--category", choices=CATEGORIES, default="linear", help="whose orders (default: linear)")
    add_blind(parser)
    text("--report", type=Path, default=REPORT_PATH, metavar="FILE", help=f"what was done and proven ({REPORT_PATH})")
    until = f"until it gives up, {_span(DEADLINE_RANGE_S)} s, or 0: never before it is proven"
    text("--deadline-s", type=_deadline, metavar="S", help=f"{until} (default: late + {DEADLINE_S})")
    quiet = f"between the two reads that prove it, {_span(QUIET_RANGE_S)} s (default: {QUIET_S:g})"
    text("--quiet-s", type=seconds(*QUIET_RANGE_S), default=QUIET_S, metavar="S", help=quiet)
    band = f"how far from the best price a slice may close, {_span(BAND_RANGE_BPS)} bps (default: 100)"
    text("--band-bps", type=bps(*BAND_RANGE_BPS), default=100, metavar="BPS", help=band)
    return parser


def _deadline(text: str) -> float:
    return 0.0 if text == "0" else number_within(*DEADLINE_RANGE_S)(text)


def _span(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g} to {bounds[1]:g}"


def add_blind(parser: argparse.ArgumentParser) -> None:
    """What a kill switch is told besides where to act; whoever starts one hands it on."""
    parser.add_argument(
        "--foreign-orders", choices=("report", "cancel"), default="report",
        help="cancel: the account is ours alone, so nothing is told apart (default: report)",
    )  # fmt: skip
    parser.add_argument(
        "--journal", type=Path, action="append", default=[], metavar="DIR",
        help="a run's state folder, or one of such: own orders in it are cancelled even where the venue shows none",
    )  # fmt: skip
    parser.add_argument(
        "--gateway", default="", metavar="HOST",
        help="the one host that MM_VENUE_GATEWAY may name where real money is meant (default: none)",
    )  # fmt: skip
    late = "how long an order may still come: grant's time + receive window + 2 quote intervals"
    parser.add_argument(
        "--late-s", type=number_within(*LATE_RANGE_S), default=LATE_S, metavar="S",
        help=f"{late}, {_span(LATE_RANGE_S)} s (default: {LATE_S})",
    )  # fmt: skip


def symbols_of(text: str) -> tuple[str, ...]:
    """An argument of symbols by commas."""
    symbols = tuple(part.strip() for part in text.split(",") if part.strip())
    wrong = [symbol for symbol in symbols if not SYMBOL.fullmatch(symbol)]
    if wrong or not symbols:
        raise argparse.ArgumentTypeError(f"{text!r}, allowed: symbols of capital letters and digits, by commas")
    return symbols


def number_within(low: float, high: float) -> Callable[[str], float]:
    """An argument that is a number within these bounds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}, allowed: {low} to {high}")
        return value

    return parse


def whole_within(low: int, high: int) -> Callable[[str], int]:
    """The same, a whole one."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r}, allowed: {low} to {high}")
        return int(text)

    return parse
