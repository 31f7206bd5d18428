"""What the engine knows, in one place. The modules beside this one each change their part of it, on events alone."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

import msgspec

from bot.domain.book import NO_TICKS, Book
from bot.domain.instrument import Instrument
from bot.domain.intent import Intent, Note, RiskNumber
from bot.domain.order import Side
from bot.engine.budgets import AmendPace, BackOff, CancelBudget, Rate
from bot.engine.counters import Counters
from bot.engine.exposure import Exposure, pico
from bot.engine.ledger import EquityCurve, Ledger
from bot.engine.orders import OrderTable, OwnOrder
from bot.engine.parameters import NS_PER_MS, NS_PER_S, EngineParameters, seconds_ns
from bot.engine.stop import StopBoard, View
from bot.engine.thresholds import FreezeThresholds

Observation = tuple[str, tuple[str, ...], float]

NEVER_NS: Final = (1 << 62) - 1
"""Later than any time that an event can carry."""

UNREACHED_APART_NS: Final = 500 * NS_PER_MS
"""Requests that fail within this of each other fail together."""


class Grant:
    """Permission to trade, until `expires_at_ns`. `symbols`: on which alone risk may be added; empty: on all."""

    __slots__ = (
        "account", "epoch", "expires_at_ns", "inventory_max_quote", "renewed_at_ns", "symbols", "total_max_quote",
    )  # fmt: skip

    def __init__(
        self, account: str, epoch: int, inventory_max_quote: Decimal, total_max_quote: Decimal, renewed_at_ns: int,
        expires_at_ns: int, symbols: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.account: Final = account
        self.epoch: Final = epoch
        self.inventory_max_quote = inventory_max_quote
        self.total_max_quote = total_max_quote
        self.renewed_at_ns = renewed_at_ns
        self.expires_at_ns = expires_at_ns
        self.symbols = symbols

    def renew(
        self, inventory_max_quote: Decimal, total_max_quote: Decimal, at_ns: int, expires_at_ns: int,
        symbols: tuple[str, ...],
    ) -> None:  # fmt: skip
        """The same was told again: limits and symbols are equal to those that it has."""
        self.inventory_max_quote = inventory_max_quote
        self.total_max_quote = total_max_quote
        self.renewed_at_ns = at_ns
        self.expires_at_ns = expires_at_ns
        self.symbols = symbols


class Wallet:
    """The account as the venue last stated it, quote."""

    __slots__ = ("at_ns", "equity_quote", "margin_used_quote")

    def __init__(self, at_ns: int, equity_quote: Decimal, margin_used_quote: Decimal) -> None:
        self.at_ns: Final = at_ns
        self.equity_quote: Final = equity_quote
        self.margin_used_quote: Final = margin_used_quote


class Day:
    """Where the account stood when a UTC day began, or when its ledger did. `day`: whole days since the epoch."""

    __slots__ = ("day", "fills", "net_quote")

    def __init__(self, day: int, net_quote: Decimal, fills: int) -> None:
        self.day: Final = day
        self.net_quote: Final = net_quote
        self.fills: Final = fills


class Release(msgspec.Struct):
    """A request of a first person to release stops. `word`: pending | released | refused.

    `covers`: the stops that held when it was asked. `refusal`: why the last word on it did not count, named in front.
    `confirmed`: somebody has confirmed it, whether that counted or not.
    """

    kind: str
    reason: str
    asked_by: str
    why: str
    asked_ns: int
    covers: tuple[str, ...] = ()
    word: str = "pending"
    refusal: str = ""
    released: tuple[str, ...] = ()
    confirmed: bool = False


class LastTrade:
    """The newest public trade of one symbol: twice its price in ticks, NO_TICKS before the first, and when it came."""

    __slots__ = ("at_ns", "price2_ticks")

    def __init__(self) -> None:
        self.price2_ticks = NO_TICKS
        self.at_ns = 0

    def told(self, price_ticks: int, at_ns: int) -> None:
        self.price2_ticks = 2 * price_ticks
        self.at_ns = at_ns


class State:
    """Everything between two events. `out` collects the intents of the event being handled."""

    def __init__(self, parameters: EngineParameters) -> None:
        symbols = parameters.symbols
        self.parameters = parameters
        self.now_ns = 0
        self.started_ns = 0
        """when this process began; 0 before"""
        self.out: list[Intent] = []
        self.observations: list[Observation] = []
        self.counters = Counters(symbols)
        self.held: set[str] = set(symbols)
        """symbols of which too little is known to quote there: their filters, or the account since these came"""
        self.unread: set[str] = set(symbols)
        """symbols whose position nobody has read since the private stream came up, or since their filters did"""
        self.blocked: set[str] = set()
        """symbols whose filters are in doubt since"""
        self.own: dict[str, EngineParameters] = {symbol: parameters.of(symbol) for symbol in symbols}
        """symbol → the parameters as they are there"""
        # market
        self.books: dict[str, Book] = {symbol: Book() for symbol in symbols}
        self.instruments: dict[str, Instrument] = {}
        self.instruments_version = 0
        """rises when filters are told that are others"""
        self.last_mid2: dict[str, int] = {}
        self.last_trade: dict[str, LastTrade] = {symbol: LastTrade() for symbol in symbols}
        self.resync_asked_ns: dict[str, int] = {}
        self.frozen: dict[str, int | None] = {}
        """symbols that are frozen by themselves → since when their book is good again, None while it is not"""
        # account
        self.orders = OrderTable(symbols)
        self.ledger = Ledger(symbols)
        self._equity = EquityCurve()
        self.bring_equity_up: Callable[[], None] = lambda: None
        """tells the curve what the last turn of the clock found, where it was spared; see `bot.engine.losses`"""
        self.exposure = Exposure(self.orders, self.ledger, self.instruments, self.last_mid2)
        self.adopted_ns: dict[str, int] = {}
        """symbol → when the venue's position was taken over; executions from then on are ours to account for"""
        self.wallet: Wallet | None = None
        """the newest statement, however old: see `statement`"""
        self.day: Day | None = None
        """today; None before the first turn of the clock"""
        self.day_before: Day | None = None
        """the one that ended last in this process; None where none did"""
        self.ready_ns = 0
        """when everything needed for quoting was there for the first time, 0 before"""
        self.venue_equity = EquityCurve()
        """the account's equity net of transfers, by the venue's statements"""
        self.venue_fees: dict[str, tuple[Decimal, Decimal]] = {}
        """symbol → (maker net of rebate, taker) in bps, as the venue stated them"""
        self.barred: RiskNumber | None = None
        """a limit that bars everything new without being a stop"""
        self.last_execution_ns: dict[str, int] = dict.fromkeys(symbols, 0)
        self.back_off: dict[tuple[str, Side], BackOff] = {
            (symbol, side): self.orders.of[symbol].back_off(side) for symbol in symbols for side in Side
        }
        self.sequence = 0
        self.is_shadow: Final = parameters.mode == "shadow"
        self._requires_grant: Final = parameters.requires_grant
        self._statement_max_age_ns: Final = parameters.statement_max_age_ns
        self._first_statement_ns: Final = parameters.first_statement_ns
        asked = (parameters.total_max_quote, parameters.max_total_notional_quote, parameters.kill_total_max_quote)
        self._total_max_quote: Final = min(limit for limit in asked if limit is not None)
        self.confirm_ns = parameters.confirm_timeout_ms * NS_PER_MS
        """how long an order may stay acknowledged and not confirmed"""
        self.ack_ns = seconds_ns(parameters.ack_timeout_s)
        """how long an acknowledgement may be missing"""
        # streams; 0 = down
        self.public_up_since_ns = 0
        self.private_up_since_ns = 0
        # permission
        self._grant: Grant | None = None
        self.epoch = 0
        self.grant_lost_ns: int | None = None
        """when a grant that was held was lost, None while one is held or none ever was; see `permission.carry_lost`"""
        # stopping
        self.stops = StopBoard(seconds_ns(parameters.hysteresis_s), self._permit)
        self.thresholds = FreezeThresholds(parameters)
        self.last_latency: tuple[int, int] = (0, 0)
        """(ms, at_ns) of the newest answer to a create"""
        self.unreached = 0
        """requests in a row that did not reach the venue or had no answer; what fails together counts once"""
        self._unreached_ns = 0
        self.operations: dict[str, None] = {}
        """idempotency keys of requests from outside, oldest first"""
        self.releases: dict[str, Release] = {}
        """requests to release stops by their ids, oldest first; of earlier processes only that they are over"""
        self.planned_orphans: set[str] = set()
        """client order ids that a drill has announced"""
        self.planned_loss_until_ns = 0
        """until when a loss of the streams is a drill's; 0: no drill"""
        self._ready = False
        self.may_quote_until_ns = 0
        """until when quoting is permitted as things stand: 0 where it is not, NEVER_NS where no grant is needed"""
        self.due_ns = 0
        """when a turn of the clock has to look at more than the quotes; 0: at the next one (see `bot.engine.engine`)"""
        self.answer_due_ns = 0
        """before then no answer or confirmation can be missing for too long"""
        self.taker_fills = 0
        # rates
        self.order_rate = Rate(parameters.orders_per_min_max)
        self.cancel_rate = Rate(parameters.cancels_per_min_max)
        self.cancel_budget = CancelBudget(
            parameters.cancel_budget_per_min, parameters.cancel_budget_reserve, parameters.cancel_budget_breaches_max,
            parameters.cancel_budget_breach_window_s * NS_PER_S,
        )  # fmt: skip
        self.amend_pace = AmendPace(parameters.amends_per_s_max, parameters.amends_reserve_pct)
        self.limits_version = 0
        """rises when something that limits are made of has changed"""

    # ---- permission ----

    @property
    def ready(self) -> bool:
        """True from the first time that everything needed for quoting was there."""
        return self._ready

    @ready.setter
    def ready(self, ready: bool) -> None:
        self._ready, self.ready_ns = ready, self.now_ns
        self._permit()

    @property
    def grant(self) -> Grant | None:
        """The grant that is held, expired or not."""
        return self._grant

    @grant.setter
    def grant(self, grant: Grant | None) -> None:
        self._grant = grant
        self._permit()

    def _permit(self) -> None:
        """Something that permission is made of has changed."""
        self.due_ns = self.may_quote_until_ns = 0
        if self._ready and not self.stops.any:
            if not self._requires_grant:
                self.may_quote_until_ns = NEVER_NS
            elif self._grant is not None:
                self.may_quote_until_ns = self._grant.expires_at_ns

    def grant_renewed(self, grant: Grant) -> None:
        """The grant that is held has another time to expire at: nothing else is new."""
        if self.may_quote_until_ns and self._requires_grant:
            self.may_quote_until_ns = grant.expires_at_ns

    def back_off_of(self, order: OwnOrder) -> BackOff:
        """How long that order's side waits."""
        return order.of.back_off(order.side)

    def due_by(self, at_ns: int) -> None:
        """The first turn of the clock from then on has to look at more than the quotes."""
        if at_ns < self.due_ns:
            self.due_ns = at_ns

    def answer_by(self, at_ns: int) -> None:
        """Something was asked or answered: then it has to be looked at whether the next word has come."""
        if at_ns < self.answer_due_ns:
            self.answer_due_ns = at_ns

    def reached(self, *, reached: bool) -> None:
        """Whether a request reached the venue: told of every answer that says so or says the opposite."""
        if reached:
            self.unreached = 0
        elif not self.unreached or self.now_ns - self._unreached_ns >= UNREACHED_APART_NS:
            self.unreached += 1
            self._unreached_ns = self.now_ns
            self.due_ns = 0

    @property
    def view(self) -> View:
        return self.stops.view(ready=self._ready)

    @property
    def loss_is_planned(self) -> bool:
        """Whether a stream that is lost now is a drill's."""
        return self.now_ns < self.planned_loss_until_ns

    @property
    def equity_told(self) -> EquityCurve:
        """The curve of equity as it was last told: for showing, which must not change what is decided."""
        return self._equity

    @property
    def has_grant(self) -> bool:
        """An unexpired grant now, or none is needed."""
        if not self._requires_grant:
            return True
        return self._grant is not None and self.now_ns < self._grant.expires_at_ns

    def granted(self, symbol: str) -> bool:
        """Whether the grant that is held, if one is, lets risk be added on that symbol."""
        return self.grant is None or not self.grant.symbols or symbol in self.grant.symbols

    def may_quote(self) -> bool:
        """Ready, not stopped, permitted. A method: it changes while one event is handled."""
        return self.now_ns < self.may_quote_until_ns

    # ---- limits ----

    @property
    def inventory_max_quote(self) -> Decimal:
        """The tighter of our own and the grant's limit, per symbol."""
        own = self.parameters.inventory_max_quote
        return own if self.grant is None else min(own, self.grant.inventory_max_quote)

    def position_max_quote(self, symbol: str) -> Decimal:
        """The same for one symbol, under its own ceiling where it has one; nothing where the grant leaves it out."""
        if not self.granted(symbol):
            return Decimal(0)
        ceiling = self.own[symbol].position_max_quote
        return self.inventory_max_quote if ceiling is None else min(self.inventory_max_quote, ceiling)

    def others_pico(self, symbol: str) -> int:
        """What all other symbols could cost at worst (see `bot.engine.exposure`).

        A held one whose position was not read counts with its whole limit at least, and so does what is open where no
        mid was told yet: unknown is not none, and no process of ours leaves more.
        """
        total = self.exposure.others_pico(symbol)
        for other in self._unseen(symbol):
            ceiling, limit = self.own[other].position_max_quote, self.inventory_max_quote
            most = limit if ceiling is None else min(limit, ceiling)
            total += max(0, pico(most) - self.exposure.worst_pico(other))
        return total

    def others_open(self, symbol: str) -> int:
        """How many other symbols have a position or orders that may fill, or may have."""
        found = self.exposure.open_symbols() | self._unseen(symbol)
        return len(found) - (symbol in found)

    def _unseen(self, symbol: str) -> set[str]:
        """Other symbols that are held and whose position was not read, or that have one that no mid values."""
        unseen = (self.held & self.unread) - {symbol} if self.held else self.held
        if len(self.last_mid2) == len(self.books):
            return unseen
        return unseen | {one for one in self.exposure.open_symbols() if one not in self.last_mid2 and one != symbol}

    @property
    def total_max_quote(self) -> Decimal:
        """The tightest of our own limit, its ceilings and the grant's."""
        tightest, grant = self._total_max_quote, self._grant
        return tightest if grant is None or tightest <= grant.total_max_quote else grant.total_max_quote

    @property
    def leverage_quote(self) -> Decimal | None:
        """Most notional that the leverage cap leaves, None without one; 0 while equity is unknown."""
        cap = self.parameters.leverage_max
        if cap is None:
            return None
        stated = self.statement
        return Decimal(0) if stated is None else max(Decimal(0), stated.equity_quote * cap)

    # ---- money ----

    @property
    def statement(self) -> Wallet | None:
        """What the venue says of the account; None where that is too long ago (in shadow it never is)."""
        wallet = self.wallet
        return None if wallet is None or self.statement_is_stale(self.now_ns) else wallet

    def statement_is_stale(self, at_ns: int) -> bool:
        """Whether a statement is missing at that time: the newest is too old, or none came since quoting was ready."""
        if self.is_shadow:
            return False
        due_ns = self.statement_due_ns
        return due_ns != 0 and at_ns > due_ns

    @property
    def statement_due_ns(self) -> int:
        """Until when the next statement has to come; 0 where the first is waited for and nothing is quoted yet."""
        wallet, ready_ns = self.wallet, self.ready_ns
        if wallet is not None:
            return wallet.at_ns + self._statement_max_age_ns
        return ready_ns + self._first_statement_ns if ready_ns else 0

    @property
    def equity(self) -> EquityCurve:
        """The net result over time, as of the last turn of the clock."""
        self.bring_equity_up()
        return self._equity

    def mark(self, symbol: str) -> Decimal | None:
        """The newest mid, quote per base; the last one known where the book is lost; None before the first."""
        mid2, instrument = self.last_mid2.get(symbol), self.instruments.get(symbol)
        return None if mid2 is None or instrument is None else instrument.tick_size * mid2 / 2

    def emit(self, intent: Intent) -> None:
        self.out.append(intent)

    def note(self, level: str, event: str, **fields: str | int | float | bool) -> None:
        """Something for log and metrics; replay repeats it."""
        self.out.append(Note(self.now_ns, level, event, fields))

    def observe(self, name: str, labels: tuple[str, ...], value: float) -> None:
        self.observations.append((name, labels, value))
