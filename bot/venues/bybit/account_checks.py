"""What an account and its key must be before money is put to work: one row a check, PASS, FAIL or UNKNOWN.

Each asks the venue through the account client. A check that could not be made (no answer, an answer without the field)
is UNKNOWN with its reason, and unknown is not a pass.
Source: Bybit V5, user/query-api, account/info, account/fee-rate, position/list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from bot.domain.instrument import Category
from bot.domain.order import OWN_PREFIX
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.wire import KeyInformation
from bot.venues.port import FeeRates, VenueError, VenueGarbled

AHEAD_MS: Final = 1_000
"""The venue refuses a timestamp this far ahead of its clock, whatever the receive window."""
DAY_S: Final = 86_400
UNIFIED_STATUS_MIN: Final = 3
NEVER_BEFORE: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""A key that expired before there were keys does not expire: so the venue writes it of keys bound to an address."""
TRADES: Final[Mapping[Category, frozenset[str]]] = {
    "linear": frozenset({"ContractTrade:Order", "Derivatives:DerivativesTrade"}),
    "spot": frozenset({"Spot:SpotTrade"}),
}

Word = Literal["PASS", "FAIL", "UNKNOWN"]


class Assumed(NamedTuple):
    """What decisions take for granted. `fees`: symbol → (maker net of rebate, taker), bps; None: as the venue says.

    `now_s`: the wall clock. `saved_at_s`: when the secret was kept, by its backend's word; None: it does not know.
    """

    symbols: Sequence[str]
    category: Category
    receive_window_ms: int
    fees: Mapping[str, tuple[Decimal, Decimal]] | None
    margin_mode: str
    key_expires_min_days: int
    secret_max_age_days: int
    now_s: int
    saved_at_s: int | None = None


class AccountRow(NamedTuple):
    """One check as it came out. `value` as found, `limit` what is needed, both in words; `detail`: why UNKNOWN."""

    name: str
    title: str
    word: Word
    value: str
    limit: str
    detail: str = ""


Ask = Callable[[AccountClient, Assumed], tuple[bool, str]]


class AccountCheck(NamedTuple):
    """`limit` says what is needed, given what is assumed; `ask` whether it is so, and what was found."""

    name: str
    title: str
    limit: Callable[[Assumed], str]
    ask: Ask


def check_account(client: AccountClient, assumed: Assumed) -> list[AccountRow]:
    """Every check, in order, whatever the ones before it said."""
    return [_row(check, client, assumed) for check in CHECKS]


def _row(check: AccountCheck, client: AccountClient, assumed: Assumed) -> AccountRow:
    limit = check.limit(assumed)
    try:
        good, value = check.ask(client, assumed)
    except VenueError as error:
        why = " ".join(str(error).split()) or type(error).__name__
        return AccountRow(check.name, check.title, "UNKNOWN", "", limit, why)
    return AccountRow(check.name, check.title, "PASS" if good else "FAIL", value, limit)


# ---- the checks -----------------------------------------------------------------------------------------------------


def clock(client: AccountClient, assumed: Assumed) -> tuple[bool, str]:
    """The venue's clock minus ours, read afresh."""
    client.server_time_ms()
    skew_ms = client.clock_offset_ms
    if skew_ms is None:
        raise VenueGarbled("the venue's clock was not read")
    return abs(skew_ms) < min(AHEAD_MS, assumed.receive_window_ms), f"{skew_ms} ms"


def rights(client: AccountClient, assumed: Assumed) -> tuple[bool, str]:
    """Reads and trades what is traded, and can withdraw nothing."""
    found = client.key_information()
    granted = {f"{group}:{name}" for group, names in found.permissions.items() for name in names}
    trades = bool(granted & TRADES[assumed.category])
    withdraws = any("withdraw" in name.lower() for name in granted)
    said = "read only" if found.read_only else "reads and trades" if trades else "reads, does not trade"
    return not found.read_only and trades and not withdraws, said + (", CAN WITHDRAW" if withdraws else "")


def bound(client: AccountClient, assumed: Assumed) -> tuple[bool, str]:
    """Bound to addresses: a key that leaks is worth nothing elsewhere."""
    ips = _ips(client.key_information())
    return _is_bound(ips), ", ".join(ips) if ips and "*" not in ips else "any address"


def lasting(client: AccountClient, assumed: Assumed) -> tuple[bool, str]:
    """Does not end soon, or at all."""
    found = client.key_information()
    if not found.expired_at and _is_bound(_ips(found)):
        return True, "does not expire"
    expires = _moment(found.expired_at, "expiredAt")
    if expires < NEVER_BEFORE and _is_bound(_ips(found)):
        return True, "does not expire"
    left_days = (int(expires.timestamp()) - assumed.now_s) // DAY_S
    return left_days >= assumed.key_expires_min_days, f"{left_days} days left"


def young(client: AccountClient, assumed: Assumed) -> tuple[bool, str]:
    """How old the key is by the venue's word, and its secret by the backend's: the older one counts."""
    created = _moment(client.key_information().created_at, "createdAt")
    ages = {"the key": (assumed.now_s - int(created.timestamp())) // DAY_S}
    if assumed.saved_at_s is not None:
        ages["the saved secret"] = (assumed.now_s - assumed.saved_at_s) // DAY_S
    what, oldest = max(ages.items(), key=lambda pair: pair[1])
    return oldest <= assumed.secret_max_age_days, f"{what} is {max(oldest, 0)} days old"


def margin(client: AccountClient, assumed: Assumed) -> tuple[bool, str]:
    """A unified account in the assumed margin mode."""
    found = client.account_information()
    unified = found.unified_margin_status >= UNIFIED_STATUS_MIN
    said = found.margin_mode if unified else f"{found.margin_mode}, not a unified account"
    return unified and found.margin_mode == assumed.margin_mode, said


def one_way(client: AccountClient, assumed: Assumed) -> tuple[bool, str]:
    """One position a symbol: two directions at once are no position of ours."""
    if assumed.category == "spot":
        return True, "spot has no positions"
    hedging = [symbol for symbol in assumed.symbols if not client.is_one_way(symbol)]
    return not hedging, f"{', '.join(hedging)} in hedge mode" if hedging else "one-way"


def fees(client: AccountClient, assumed: Assumed) -> tuple[bool, str]:
    """The tier the account has is the one that edge and profit were computed with."""
    rates = client.fee_rates(assumed.symbols)
    said = "; ".join(f"{symbol} {_bps(rate.maker_bps)}/{_bps(rate.taker_bps)} bps" for symbol, rate in rates.items())
    return assumed.fees is None or all(_as_assumed(rate, assumed.fees[name]) for name, rate in rates.items()), said


def no_foreign_orders(client: AccountClient, assumed: Assumed) -> tuple[bool, str]:
    """Nobody else trades here: no order without our prefix."""
    foreign = [one for one in client.open_orders(assumed.symbols) if not one.client_order_id.startswith(OWN_PREFIX)]
    return not foreign, f"{len(foreign)} foreign"


RIGHTS: Final = AccountCheck(
    "key", "The key reads, trades and cannot withdraw", lambda _: "trades, no withdrawal", rights
)
BOUND: Final = AccountCheck("ip", "The key is bound to addresses", lambda _: "bound", bound)
LASTING: Final = AccountCheck(
    "expiry", "The key does not expire soon", lambda a: f">= {a.key_expires_min_days} days left", lasting
)
YOUNG: Final = AccountCheck("age", "The key is not too old", lambda a: f"<= {a.secret_max_age_days} days", young)
MARGIN: Final = AccountCheck("margin", "The margin mode is as assumed", lambda a: a.margin_mode, margin)
ONE_WAY: Final = AccountCheck("one_way", "Positions are one-way", lambda _: "one-way", one_way)


def _fees_limit(assumed: Assumed) -> str:
    if assumed.fees is None:
        return "known"
    return "; ".join(f"{name} {_bps(maker)}/{_bps(taker)} bps" for name, (maker, taker) in assumed.fees.items())


FEES: Final = AccountCheck("fees", "The fee tier is as assumed", _fees_limit, fees)
CHECKS: Final[tuple[AccountCheck, ...]] = (
    AccountCheck("clock", "The clocks agree", lambda a: f"within {min(AHEAD_MS, a.receive_window_ms)} ms", clock),
    *(RIGHTS, BOUND, LASTING, YOUNG, MARGIN, ONE_WAY, FEES),
    AccountCheck("foreign", "Nobody else's order stands here", lambda _: "0 foreign", no_foreign_orders),
)


# ---- reading what was found -----------------------------------------------------------------------------------------


def _ips(found: KeyInformation) -> list[str]:
    if found.ips is None:
        raise VenueGarbled("ips: missing")
    return found.ips


def _is_bound(ips: list[str]) -> bool:
    return bool(ips) and "*" not in ips


def _moment(text: str, field: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise VenueGarbled(f"{field}: {text!r} is no moment") from None
    if found.tzinfo is None:
        raise VenueGarbled(f"{field}: {text!r} has no time zone")
    return found


def _as_assumed(rate: FeeRates, wanted: tuple[Decimal, Decimal]) -> bool:
    return (rate.maker_bps, rate.taker_bps) == wanted


def _bps(value: Decimal) -> str:
    return format(value.normalize(), "f")
