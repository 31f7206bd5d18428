"""Everything that trades at one simulated venue: several symbols, one wallet a holder, one plan of faults. Pure.

A symbol is a `Venue` of its own: book, market, orders. What they share is who trades there and what goes wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from bot.domain.instrument import Category
from bot.simulator.accounts import Account, Holder
from bot.simulator.fault_file import Due
from bot.simulator.faults import Fault, FaultPlan, FaultRefused
from bot.simulator.orders import Refused
from bot.simulator.venue import Venue

SPOT_COIN_QUOTE = Decimal(10)
"""A new holder who may trade spot begins with one part in this of his quote in every base coin: a maker sells too."""


class Exchange:
    """`venues`: a fault that names no symbol happens at the first. They all have one plan of faults."""

    def __init__(self, venues: Sequence[Venue]) -> None:
        self.venues = tuple(venues)
        self.faults: FaultPlan = self.venues[0].faults
        if any(venue.faults is not self.faults for venue in self.venues):
            raise ValueError("the venues of one exchange have one plan of faults")
        self.categories: tuple[Category, ...] = tuple(dict.fromkeys(v.instrument.category for v in self.venues))
        """Those in which something trades."""
        self._by_place: dict[str, dict[str, Venue]] = {name: {} for name in self.categories}
        for venue in self.venues:
            self._by_place[venue.instrument.category].setdefault(venue.instrument.symbol, venue)
        self.holders: dict[str, Holder] = {}
        self.forgotten_before_ns = 0
        """When the venue last restarted: what had ended by then is no longer among the recent orders."""
        for account in self.venues[0].accounts.values():
            self._admit(account.holder)

    def venue(self, category: object, symbol: object) -> Venue | None:
        """Where that symbol trades in that category; None: nowhere."""
        if not isinstance(category, str) or not isinstance(symbol, str):
            return None
        here = self._by_place.get(category)
        return None if here is None else here.get(symbol)

    def of_category(self, category: object) -> list[Venue]:
        """All symbols of that category, in the order of listing."""
        return [venue for venue in self.venues if venue.instrument.category == category]

    def accounts(self, holder: Holder, category: object = None) -> Iterable[tuple[Venue, Account]]:
        """The holder's accounts at all symbols, or at those of one category."""
        for venue in self.venues:
            if category is None or venue.instrument.category == category:
                yield venue, venue.accounts[holder.name]

    def open_account(self, api_key: str, api_secret: str, equity_quote: Decimal, now_ns: int) -> Holder:
        """A new holder with this much quote, and a tenth of it in every coin of spot. sim-1, sim-2 … in order."""
        number = len(self.holders) + 1
        quote = self.venues[0].instrument.quote
        coins = {quote: equity_quote}
        for venue in self.of_category("spot"):
            worth = equity_quote / SPOT_COIN_QUOTE
            mark = venue.instrument.tick_size * venue.mark_half_ticks / 2
            coins[venue.instrument.base] = venue.instrument.qty(venue.instrument.lots_floor(worth / mark))
        return self._admit(Holder(f"sim-{number}", 100_000 + number, api_key, api_secret, now_ns, quote, coins))

    def _admit(self, holder: Holder) -> Holder:
        self.holders[holder.name] = holder
        for venue in self.venues:
            if holder.name not in venue.accounts:
                venue.enroll(holder)
        return holder

    def advance(self, now_ns: int) -> int:
        """Let every market do what is due; how many steps that were."""
        return sum(venue.advance(now_ns) for venue in self.venues)

    def next_at_ns(self) -> int:
        """When the first of the markets moves next."""
        return min(venue.next_at_ns() for venue in self.venues)

    def befall(self, due: Due, now_ns: int) -> None:
        """Arm a fault of a plan, for every account where it is one account's."""
        for account in due.accounts(list(self.holders)):
            try:
                self.arm(due.kind, account, due.parameters, now_ns)
            except Refused:  # a foreign order that the account cannot afford: this time it does not come
                continue

    def arm(self, kind: str, account: str, parameters: Mapping[str, object], now_ns: int) -> Fault:
        """Arm a fault; a parameter `symbol` says where. Raises FaultRefused, and Refused as the venue does."""
        given = dict(parameters)
        symbol = str(given.pop("symbol", ""))
        here = [venue for venue in self.venues if venue.instrument.symbol == symbol] if symbol else list(self.venues)
        if not here:
            listed = ", ".join(dict.fromkeys(venue.instrument.symbol for venue in self.venues))
            raise FaultRefused(f"symbol: {symbol!r} is not one of {listed}")
        fault = self.faults.arm(kind, account, given, now_ns, symbol=symbol)
        if kind == "venue_restart":
            self.forgotten_before_ns = now_ns
        everywhere = kind in ("loss", "loss_over", "wrong_fill_price")
        for venue in here if everywhere else here[:1]:
            venue.befall(fault, now_ns)
        return fault
