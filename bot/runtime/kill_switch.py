"""The kill switch: own process, own venue session. Cancels all own orders, flattens if asked, and proves both.

It trusts nothing but reads that succeeded. "Executed" means: from one read to another, a quiet time apart, no own order
was open, none appeared that was not known (a bot that still quotes may have put one up and lost it between two reads),
and, with flatten, there was no position. The first of these reads is not before everything that was sent under the last
grant has arrived at the venue or can be taken there no more (`late_s`). Until then it repeats cancel and read. At the
deadline it says what it could not prove, and that is `failed`.

Orders of others on the same account are reported and left alone: at a symbol with any of them about, own orders are
cancelled one by one, because the venue's cancel-all asks nobody whose they are.

A row that does not fit hides no other one: the rest is decoded, an order is cancelled by its own id where that is ours,
the positions that are known are reduced, and the read that showed it proves nothing.

Cancelling needs no read: before the first one, and while reads fail, it cancels blind; everything where the account is
ours alone, else by their ids the orders that journals say may stand. What was cancelled blind proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Final, Protocol

from bot.domain.instrument import Instrument
from bot.domain.order import OWN_PREFIX, Side
from bot.journal import JournalError
from bot.runtime.kill_switch_report import NS_PER_MS, NS_PER_S, Attempt, FlattenSent, OrdersRead, Report
from bot.venues.bybit.account_orders import AccountOrder, OrderName, OrdersNotWhole
from bot.venues.bybit.account_positions import PositionsNotWhole
from bot.venues.port import (
    ImmediateOrder,
    Position,
    TopOfBook,
    VenueClockSkew,
    VenueError,
    VenueRefused,
    VenueUnreachable,
)

FLATTEN_BAND_BPS: Final = Decimal(100)
PAUSE_S: Final = 0.1
"""Between rounds: cancels are confirmed asynchronously, and the venue counts our calls."""

SETTLE_S: Final = 0.5
"""Between the two reads that prove, where the bot is known to be gone: longer than an order is on its way."""

QUIET_S: Final = 5.0
"""The same where it may live: as long as it waits at most before it quotes again after refusals."""

LATE_S: Final = 10.5
"""Until the first of the two, where nobody says more: a grant's time to live, the receive window, two quote intervals,
each as it is by default."""

BLIND_EVERY_S: Final = 1.0
"""While reads fail: more often would only use up what the venue lets through."""

BLIND_FOR_S: Final = 3.0
"""Then it is read again, however many are left: they have their turn at the next blind cancel."""

NOT_HAPPENED: Final = (VenueRefused, VenueUnreachable, VenueClockSkew)
"""What of an order says that it did not happen and will not."""


class Client(Protocol):
    """What the kill switch needs of a venue account. Every call raises VenueError where it did not succeed.

    A read of no symbols is one of all of them. `within`: while it lasts, a call ends when those seconds are over, and
    none begins after that.
    """

    def within(self, left_s: Callable[[], float]) -> AbstractContextManager[None]: ...
    def open_orders(self, symbols: Sequence[str]) -> list[AccountOrder]: ...
    def recent_orders(self, symbols: Sequence[str]) -> list[AccountOrder]: ...
    def cancel_all(self, symbol: str) -> int: ...
    def cancel_everything(self) -> int: ...
    def cancel_own(self, symbol: str, client_order_id: str) -> bool: ...
    def cancel(self, order: AccountOrder) -> bool: ...
    def positions(self, symbols: Sequence[str]) -> list[Position]: ...
    def instrument(self, symbol: str) -> Instrument: ...
    def top_of_book(self, symbol: str) -> TopOfBook: ...
    def place_immediate(self, order: ImmediateOrder) -> str: ...


class KillSwitch:
    """One account's kill switch. Own orders are those whose client order id starts with `own_prefix`.

    `symbols`: whose orders and positions; none: those of the whole account. `positions_of`: other ones for positions.
    `late_s`: how long after the start an order that was sent before it may still come; 0 only where the caller waits.
    `quiet_s`: between the two reads that prove. `holds_positions`: False for spot. `alone`: nobody else uses the
    account, so its orders need not be told apart. `known`: (symbol, client order id) of own orders that may stand, by
    what was written down; asked again at every blind cancel, may raise JournalError. `say`: told what goes wrong while
    it goes wrong, each thing once.
    """

    def __init__(
        self,
        client: Client,
        symbols: Sequence[str],
        *,
        late_s: float,
        own_prefix: str = OWN_PREFIX,
        band_bps: Decimal = FLATTEN_BAND_BPS,
        quiet_s: float = SETTLE_S,
        say: Callable[[str], None] = lambda _line: None,
        holds_positions: bool = True,
        alone: bool = False,
        known: Callable[[], Sequence[tuple[str, str]]] = tuple,
        positions_of: Sequence[str] | None = None,
    ) -> None:
        self._client = client
        self._symbols = tuple(symbols)
        self._positions_of = self._symbols if positions_of is None else tuple(positions_of)
        self._own_prefix = own_prefix
        self._band = band_bps / 10_000
        self._late_ns = int(late_s * NS_PER_S)
        self._quiet_ns = int(quiet_s * NS_PER_S)
        self._say = say
        self._holds_positions = holds_positions
        self._alone = alone
        self._known = known

    def run(
        self,
        execute: bool,
        flatten: bool,
        deadline_s: float,
        clock: Callable[[], int],
        wait: Callable[[float], None],
        spent_s: float = 0.0,
    ) -> Report:
        """Works until proven or until `deadline_s` has passed, of which `spent_s` were spent before. `clock`: ns since
        the epoch that never steps back.

        What holds for the run holds for every call of it: one that is under way at the deadline ends there, and what
        is left of its round is not asked any more. What that leaves unproven is `failed`.

        Without `execute` nothing is sent: one successful read of orders and positions is the whole run. Never raises
        for what a venue can do; the report says it. Raises ValueError for flattening what holds no positions.
        """
        if flatten and not self._holds_positions:
            raise ValueError("there are no positions to flatten")
        attempt = Attempt(started_ns=clock(), say=self._say)
        deadline_ns = attempt.started_ns + int((deadline_s - spent_s) * NS_PER_S)
        proven = False
        with self._client.within(lambda: (deadline_ns - clock()) / NS_PER_S):
            while not proven:
                proven = self._round(attempt, flatten, clock) if execute else self._look(attempt, clock)
                remaining_s = (deadline_ns - clock()) / NS_PER_S
                if proven or remaining_s <= 0:
                    break
                wait(min(PAUSE_S, remaining_s))
        if not proven:
            attempt.note(f"not proven within {deadline_s} s")
        return attempt.report(execute=execute, flatten=flatten, proven=proven, finished_ns=clock())

    def _look(self, attempt: Attempt, clock: Callable[[], int]) -> bool:
        self._read_orders(attempt, clock)
        return attempt.whole and self._read_positions(attempt)[1]

    def _round(self, attempt: Attempt, flatten: bool, clock: Callable[[], int]) -> bool:
        """One cancel, read, flatten. True: proven."""
        begun_ns = clock()
        if not attempt.whole:
            self._cancel_blind(attempt, clock)
        clean = self._clean_round(attempt, flatten, clock)
        if not clean:
            attempt.clean_since_ns = None
            return False
        if begun_ns - attempt.started_ns < self._late_ns:
            return False  # what was sent under the last grant may still come
        if attempt.clean_since_ns is None:
            attempt.clean_since_ns = begun_ns
        return begun_ns - attempt.clean_since_ns >= self._quiet_ns

    def _cancel_blind(self, attempt: Attempt, clock: Callable[[], int]) -> None:
        """What can be cancelled without a read that has succeeded, at first and again while none does."""
        now_ns = clock()
        if attempt.blind_ns is not None and now_ns - attempt.blind_ns < BLIND_EVERY_S * NS_PER_S:
            return
        attempt.blind_ns = now_ns
        if self._alone:
            self._cancel_all(attempt, self._symbols)
            return
        try:
            known = self._known()
        except JournalError as error:
            attempt.note(str(error))
            return
        own = [one for one in known if one[1].startswith(self._own_prefix)]
        attempt.known.update(client_order_id for _, client_order_id in own)
        begin = attempt.blind_at = attempt.blind_at if attempt.blind_at < len(own) else 0
        for symbol, client_order_id in own[begin:] + own[:begin]:
            try:
                attempt.cancelled += self._client.cancel_own(symbol, client_order_id)
            except VenueError as error:
                attempt.note(f"cancel of {client_order_id} failed: {error}")
            attempt.blind_at = (attempt.blind_at + 1) % len(own)
            if clock() - now_ns >= BLIND_FOR_S * NS_PER_S:
                return

    def _clean_round(self, attempt: Attempt, flatten: bool, clock: Callable[[], int]) -> bool:
        orders, unfit = self._read_orders(attempt, clock)
        own = [order for order in orders if self._is_own(order)]
        attempt.known.update(order.client_order_id for order in own)
        if not attempt.whole:  # whose orders the rest are is not known: what is known to be ours goes one by one
            self._cancel_each(attempt, own)
            self._cancel_unfit(attempt, unfit)
            return False
        if own or not attempt.cancel_sent:  # the first cancel also catches what the read could not show yet
            self._cancel(attempt, orders, own)
            return False
        if not self._none_appeared(attempt):
            return False
        positions, whole = self._read_positions(attempt)
        if not flatten:
            return True
        open_positions = [position for position in positions if position.qty]
        for position in open_positions:
            self._reduce(attempt, position)
        return whole and not open_positions

    def _is_own(self, order: AccountOrder | OrderName) -> bool:
        return order.client_order_id.startswith(self._own_prefix)

    def _none_appeared(self, attempt: Attempt) -> bool:
        """Whether no own order came up that was not seen before, however soon it ended. The first look only learns."""
        try:
            recent = self._client.recent_orders(self._symbols)
        except VenueError as error:
            attempt.note(f"reading recent orders failed: {error}")
            return False
        new = {order.client_order_id for order in recent if self._is_own(order)} - attempt.known - attempt.flattens
        attempt.known |= new
        if not attempt.looked:
            attempt.looked = True
            return True
        if new:
            attempt.note("own orders keep appearing: somebody still quotes")
        return not new

    def _read_orders(self, attempt: Attempt, clock: Callable[[], int]) -> tuple[list[AccountOrder], list[OrderName]]:
        """What could be read, and the names in rows that do not fit: neither one symbol that fails nor one odd row
        keeps another order from being cancelled. `attempt.whole`: whether that is all."""
        orders: list[AccountOrder] = []
        unfit: list[OrderName] = []
        attempt.whole = True
        for symbols in [[symbol] for symbol in self._symbols] or [[]]:
            try:
                orders += self._client.open_orders(symbols)
            except VenueError as error:
                attempt.whole = False
                attempt.note(f"reading open orders failed: {error}")
                if isinstance(error, OrdersNotWhole):
                    orders += error.orders
                    unfit += error.unfit
        if attempt.whole:
            own = sum(map(self._is_own, orders))
            attempt.reads.append(OrdersRead(clock() // NS_PER_MS, own, len(orders) - own))
        return orders, unfit

    def _read_positions(self, attempt: Attempt) -> tuple[list[Position], bool]:
        """What could be read, and whether that is all."""
        if not self._holds_positions:
            return [], True
        try:
            positions, whole = self._client.positions(self._positions_of), True
        except VenueError as error:
            attempt.note(f"reading positions failed: {error}")
            if not isinstance(error, PositionsNotWhole):
                return [], False
            positions, whole = error.positions, False
        known = {position.symbol: position.qty for position in positions}
        attempt.positions = known if whole else attempt.positions | known
        return positions, whole

    def _cancel(self, attempt: Attempt, orders: Sequence[AccountOrder], own: Sequence[AccountOrder]) -> None:
        """All of a symbol at once where nobody else has an order, there or anywhere; else one by one."""
        attempt.cancel_sent = True
        shared = set() if self._alone else {order.symbol for order in orders if not self._is_own(order)}
        if shared:
            here = dict.fromkeys((*self._symbols, *(order.symbol for order in own)))
            apart = [symbol for symbol in here if symbol not in shared]
            if apart:
                self._cancel_all(attempt, apart)
            self._cancel_each(attempt, [order for order in own if order.symbol in shared])
        else:
            self._cancel_all(attempt, self._symbols)

    def _cancel_all(self, attempt: Attempt, symbols: Sequence[str]) -> None:
        """Whoever's. Without symbols: of the whole account."""
        attempt.cancel_sent = True
        for symbol in symbols or [""]:
            try:
                attempt.cancelled += self._client.cancel_all(symbol) if symbol else self._client.cancel_everything()
            except VenueError as error:
                attempt.cancel_sent = False
                attempt.note(f"cancel-all of {symbol or 'the account'} failed: {error}")

    def _cancel_each(self, attempt: Attempt, own: Sequence[AccountOrder]) -> None:
        for order in own:
            try:
                attempt.cancelled += self._client.cancel(order)
            except VenueError as error:
                attempt.note(f"cancel of {order.client_order_id} failed: {error}")

    def _cancel_unfit(self, attempt: Attempt, unfit: Sequence[OrderName]) -> None:
        """Those of ours whose rows do not fit, by their own ids; one that the venue calls ended is not asked again."""
        for name in filter(self._is_own, unfit):
            if name.client_order_id in attempt.ended:
                continue
            attempt.known.add(name.client_order_id)
            try:
                if not name.symbol:
                    raise VenueError("the venue does not show its symbol")
                if self._client.cancel_own(name.symbol, name.client_order_id):
                    attempt.cancelled += 1
                else:
                    attempt.ended.add(name.client_order_id)
            except VenueError as error:
                attempt.note(f"cancel of {name.client_order_id} failed: {error}")

    def _reduce(self, attempt: Attempt, position: Position) -> None:
        """One reduce-only slice towards flat, inside the band around the opposite touch as it is now.

        An unknown outcome needs no probe: the order ends at once, cannot turn the position, and the next read tells.
        """
        try:
            order = slice_towards_flat(self._client, position, attempt.next_flatten_id(), self._band)
            if order is None:
                attempt.note(f"position of {position.symbol} is {position.qty}, less than one lot")
                return
            self._send(attempt, order)
        except VenueError as error:
            attempt.note(f"flatten of {position.symbol} failed: {error}")

    def _send(self, attempt: Attempt, order: ImmediateOrder) -> None:
        """Its executions are asked for by its id later, so one that may have happened is kept. Raises VenueError."""
        try:
            self._client.place_immediate(order)
        except NOT_HAPPENED:
            raise
        except VenueError:
            attempt.sent.append(FlattenSent(order.symbol, order.client_order_id, taken=False))
            raise
        attempt.sent.append(FlattenSent(order.symbol, order.client_order_id, taken=True))


def slice_towards_flat(
    client: Client, position: Position, client_order_id: str, band: Decimal = FLATTEN_BAND_BPS / 10_000
) -> ImmediateOrder | None:
    """The largest slice of the position that one order takes, limited by `band` (a share) around the opposite touch as
    it is now; None where it is less than one lot. Raises VenueError."""
    instrument = client.instrument(position.symbol)
    top = client.top_of_book(position.symbol)
    lots = min(instrument.lots_floor(abs(position.qty)), instrument.lots_floor(instrument.qty_max))
    if lots == 0:
        return None
    if position.qty > 0:
        side, ticks = Side.SELL, instrument.ticks_ceil(top.bid * (1 - band))
    else:
        side, ticks = Side.BUY, instrument.ticks_floor(top.ask * (1 + band))
    return ImmediateOrder(client_order_id, position.symbol, side, instrument.qty(lots), instrument.price(ticks))


def main(argv: Sequence[str] | None = None) -> int:
    """The subcommand `kill-switch`: exit code 0 proven or dry run, 1 not proven, 2 bad input."""
    from bot.runtime.kill_switch_command import run_command

    return run_command(argv)
