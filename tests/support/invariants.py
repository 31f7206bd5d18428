"""What must hold after every step of a run, whatever happens. Violations are kept: the loop would survive a raise.

What the engine believes is compared with what is so at the venue, in the same process and at the same moment. A create
in flight is at the engine and not yet at the venue; nothing of ours is ever at the venue and not at the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import msgspec

from bot.domain.events import BookDelta, BookSnapshot, Event, Filled
from bot.domain.intent import AmendOrder, Intent, PlaceOrder
from bot.domain.order import OWN_PREFIX, Side
from bot.engine.engine import Engine
from bot.journal import JournalReader
from bot.replaying import replay
from bot.simulation import ACCOUNT, START_NS, Outcome, Scenario
from bot.simulator.accounts import Account
from bot.simulator.exchange import Exchange
from bot.simulator.orders import Order


class Invariants:
    """A watch over a run of what `beside` gives.

    `violations`: simulated second, event and what was wrong; the first few. `decided`: every intent as the journal has
    to have it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.violations: list[str] = []
        self.steps = self.quotes = self.amends = 0
        self.decided: list[bytes] = []
        self._lots: dict[str, int] = {}
        self._executions: set[str] = set()
        self._exchange: Exchange | None = None
        self._orphans: set[str] = set()
        self._lowest_mid2: dict[str, int] = {}
        self._at_venue: dict[str, tuple[int, int, int]] = {}
        """symbol to position, open buys and open sells of ours there, lots, as they were last looked at"""

    def beside(self, scenario: Scenario) -> Scenario:
        """The same, told to show this watch its venue."""
        return replace(scenario, opened=self._meet)

    def _meet(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __call__(self, event: Event, intents: list[Intent], engine: Engine) -> None:
        self.steps += 1
        state = engine.known
        if isinstance(event, Filled) and event.execution_id not in self._executions:
            self._executions.add(event.execution_id)
            self._lots[event.symbol] = self._lots.get(event.symbol, 0) + event.side.sign * event.qty_lots
        for symbol, account in state.ledger.accounts.items():
            held, told = account.position_lots, self._lots.get(symbol, 0)
            self._check(held == told, event, f"{symbol}: position {held} lots, sum of fills {told}")
        if isinstance(event, BookDelta | BookSnapshot) and state.books[event.symbol].synced:
            self._check(state.books[event.symbol].usable, event, "the book is crossed or one-sided")
        self._check_venue(event, engine)
        for intent in intents:
            self.decided.append(msgspec.json.encode(intent))
            if isinstance(intent, PlaceOrder | AmendOrder):
                self._check_sent(intent, event, engine)

    def _check_venue(self, event: Event, engine: Engine) -> None:
        """No orphan, and what may come of the venue's own orders and position is within the limit.

        An order was judged at the mid of its time and stands when that has risen: so all are valued at the lowest mid
        so far, and again only where they have changed.
        """
        assert self._exchange is not None, f"{self.name}: it was never told of the venue"
        orders = engine.known.orders
        for venue, account in self._exchange.accounts(self._exchange.holders[ACCOUNT]):
            symbol, buys, sells = venue.instrument.symbol, 0, 0
            for order in own_open(account):
                known = orders.get(order.link_id)
                if (known is None or not known.live) and order.link_id not in self._orphans:
                    self._orphans.add(order.link_id)
                    held = "not in the table" if known is None else known.state
                    self._check(False, event, f"{symbol}: orphan {order.link_id}, open at the venue and {held} here")
                if order.side is Side.BUY:
                    buys += order.left_lots
                else:
                    sells += order.left_lots
            mid2 = engine.known.last_mid2.get(symbol)
            if mid2 is None:
                continue
            if mid2 < self._lowest_mid2.get(symbol, mid2 + 1):
                self._lowest_mid2[symbol] = mid2
            at_venue = (account.position.lots, buys, sells)
            if at_venue != self._at_venue.get(symbol):
                self._at_venue[symbol] = at_venue
                self._check_exposed(account, buys, sells, event, engine)

    def _check_exposed(self, account: Account, buys: int, sells: int, event: Event, engine: Engine) -> None:
        """Lots that another hand brought are left out: the bot cannot know of them before it has read them, and what it
        does then is stop for people."""
        assert self._exchange is not None
        instrument = account.instrument
        held = account.position.lots - altered_lots(self._exchange, instrument.symbol)
        limit = engine.known.parameters.inventory_max_quote
        unit = instrument.tick_size * instrument.lot_size * self._lowest_mid2[instrument.symbol] / 2
        for side, lots in ((Side.BUY, held + buys), (Side.SELL, sells - held)):
            what = f"{instrument.symbol}: {side} exposure at the venue {unit * lots} above {limit}"
            self._check(unit * lots <= limit, event, what)

    def _check_sent(self, intent: PlaceOrder | AmendOrder, event: Event, engine: Engine) -> None:
        state = engine.known
        self.quotes += isinstance(intent, PlaceOrder)
        self.amends += isinstance(intent, AmendOrder)
        stopped = ",".join(stop.reason for stop in engine.stops)
        self._check(not stopped, event, f"{type(intent).__name__} while stopped by {stopped}")
        self._check(state.has_grant, event, f"{type(intent).__name__} without a grant")
        order = state.orders.get(intent.client_order_id)
        if order is None:
            self._check(False, event, f"{intent.client_order_id} was sent and is not in the table")
            return
        symbol = order.symbol
        buys, sells = state.orders.exposed_lots(symbol)
        held = state.ledger.accounts[symbol].position_lots
        lots = held + buys if order.side is Side.BUY else sells - held
        instrument = state.instruments[symbol]
        exposed_quote = instrument.tick_size * instrument.lot_size * lots * state.last_mid2[symbol] / 2
        limit = state.inventory_max_quote
        self._check(exposed_quote <= limit, event, f"{symbol}: {order.side} exposure {exposed_quote} above {limit}")

    def _check(self, holds: bool, event: Event, what: str) -> None:
        if not holds and len(self.violations) < 5:
            self.violations.append(
                f"{self.name}: {(event.at_ns - START_NS) / 1e9:.3f} s, {type(event).__name__}: {what}"
            )

    def check_end(self, outcome: Outcome) -> None:
        """Raises AssertionError naming the run; also where nothing was looked at."""
        assert not self.violations, "\n".join(self.violations)
        assert self.steps > 100, f"{self.name}: only {self.steps} steps"
        assert outcome.exit_code == 0, f"{self.name}: exit code {outcome.exit_code}"
        state, own = outcome.engine.known, Decimal(0)
        for venue, account in outcome.exchange.accounts(outcome.holder):
            symbol = venue.instrument.symbol
            left = [order.link_id for order in own_open(account)]
            assert not left, f"{self.name}: {symbol}: orphans {left}"
            altered = altered_lots(outcome.exchange, symbol)
            told, true = self._lots.get(symbol, 0), account.position.lots - altered
            assert told == true, f"{self.name}: {symbol}: own position {told} lots, the venue's {true} of own fills"
            came_to = state.ledger.pnl(symbol, account.mark_price(), state.instruments[symbol]).net
            assert came_to is not None, f"{self.name}: {symbol}: marked, and of unknown worth"
            own += came_to
        if any(fault.kind in MONEY_FAULTS for fault in outcome.exchange.faults.of_account(ACCOUNT)):
            return
        net = outcome.venue_equity_quote - Decimal(100_000)
        assert abs(own - net) < Decimal("0.000001"), f"{self.name}: own net {own}, the venue's {net}"


MONEY_FAULTS = ("position_altered", "insolvent")
"""Money that came or went by no execution: the venue's equity is then no longer what was traded."""


def own_open(account: Account) -> Iterator[Order]:
    """The bot's orders that are open at the venue, whatever the bot believes of them."""
    return (order for order in account.open_orders.values() if order.link_id.startswith(OWN_PREFIX))


def altered_lots(exchange: Exchange, symbol: str) -> int:
    """What has come to the position by no execution; faults that name no symbol happen at the first."""
    first = exchange.venues[0].instrument.symbol
    found = exchange.faults.of_kind("position_altered")
    return sum(int(fault.number("lots")) for fault in found if (fault.symbol or first) == symbol)


def check_replay(watch: Invariants, folder: Path) -> None:
    """Replay = live: of the journal in `folder`, whose market data was kept, come the intents that the watch saw, byte
    for byte. Raises AssertionError naming the run."""
    again = replay(folder / "journal.db")
    assert not again.difference, f"{watch.name}: {again.difference}"
    assert not again.later, f"{watch.name}: {again.later}"
    with JournalReader(folder / "journal.db") as reader:
        written = [entry.body.encode() for entry in reader.entries() if entry.direction == "out"]
    assert written == watch.decided, f"{watch.name}: {len(written)} intents in the journal, {len(watch.decided)} live"
    assert again.events == watch.steps, f"{watch.name}: {again.events} events replayed, {watch.steps} live"


def two_sided_share(outcome: Outcome) -> float:
    """The share of the time in which the bot might quote that it had both sides out."""
    counts, symbol = outcome.engine.counts, outcome.venue.instrument.symbol
    may = counts[("mm_may_quote_ms_total", (symbol,))]
    return counts[("mm_quoting_ms_total", (symbol, "two"))] / may if may else 0.0
