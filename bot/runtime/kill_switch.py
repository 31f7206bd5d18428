"""The kill switch: own process, own venue session. Cancels all own orders, flattens if asked, and proves both.

It trusts nothing but reads that succeeded. "Executed" means: from one read to another, a quiet time apart, no own order
was open, none appeared that was not known (a bot that still quotes may have put one up and lost it between two reads),
and, with flatten, there was no position. Until then it repeats cancel and read. At the deadline it says what it could
not prove, and that is `failed`.

Orders of others on the same account are reported and left alone: with any of them about, own orders are cancelled one
by one, because the venue's cancel-all asks nobody whose they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.venues.port import ImmediateOrder, Position, TopOfBook, VenueError

if TYPE_CHECKING:  # the client's module loads httpx; whoever has a client has paid for it
    from bot.venues.bybit.account_client import AccountOrder

OWN_PREFIX: Final = "slw"
FLATTEN_BAND_BPS: Final = Decimal(100)
PAUSE_S: Final = 0.1
"""Between rounds: cancels are confirmed asynchronously, and the venue counts our calls."""

SETTLE_S: Final = 0.5
"""Between the two reads that prove, where the bot is known to be gone: longer than an order is on its way."""

QUIET_S: Final = 5.0
"""The same where it may live: as long as it waits at most before it quotes again after refusals."""

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000


class Client(Protocol):
    """What the kill switch needs of a venue account. Every call raises VenueError where it did not succeed."""

    def open_orders(self, symbols: Sequence[str]) -> list[AccountOrder]: ...
    def recent_orders(self, symbols: Sequence[str]) -> list[AccountOrder]: ...
    def cancel_all(self, symbol: str) -> int: ...
    def cancel(self, order: AccountOrder) -> bool: ...
    def positions(self, symbols: Sequence[str]) -> list[Position]: ...
    def instrument(self, symbol: str) -> Instrument: ...
    def top_of_book(self, symbol: str) -> TopOfBook: ...
    def place_immediate(self, order: ImmediateOrder) -> str: ...


class OrdersRead(msgspec.Struct, frozen=True):
    """One read of open orders that succeeded, all symbols together."""

    at_ms: int
    own_open: int
    foreign_open: int


class PositionLeft(msgspec.Struct, frozen=True):
    """A position as last read. `qty`: base, signed, as digits."""

    symbol: str
    qty: str


class Report(msgspec.Struct, frozen=True):
    """What was done and what is proven. `flattened`: asked for and proven by a read. `positions`: as last read."""

    status: Literal["executed", "dry_run", "failed"]
    started_utc: str
    finished_utc: str
    cancelled: int
    reads: list[OrdersRead]
    positions: list[PositionLeft]
    flattened: bool
    errors: list[str]

    @property
    def exit_code(self) -> int:
        """0 where what was asked is proven, 1 where not."""
        return 1 if self.status == "failed" else 0


class KillSwitch:
    """One account's kill switch. Own orders are those whose client order id starts with `own_prefix`."""

    def __init__(
        self,
        client: Client,
        symbols: Sequence[str],
        own_prefix: str = OWN_PREFIX,
        band_bps: Decimal = FLATTEN_BAND_BPS,
        quiet_s: float = SETTLE_S,
        say: Callable[[str], None] = lambda _line: None,
        holds_positions: bool = True,
    ) -> None:
        """`say`: told what goes wrong while it goes wrong, each thing once. `holds_positions`: False for spot."""
        self._client = client
        self._symbols = tuple(symbols)
        self._own_prefix = own_prefix
        self._band = band_bps / 10_000
        self._quiet_ns = int(quiet_s * NS_PER_S)
        self._say = say
        self._holds_positions = holds_positions

    def run(
        self,
        execute: bool,
        flatten: bool,
        deadline_s: float,
        clock: Callable[[], int],
        wait: Callable[[float], None],
    ) -> Report:
        """Works until proven or until `deadline_s` has passed. `clock`: ns since the epoch that never steps back.

        Without `execute` nothing is sent: one successful read of orders and positions is the whole run. Never raises
        for what a venue can do; the report says it. Raises ValueError for flattening what holds no positions.
        """
        if flatten and not self._holds_positions:
            raise ValueError("there are no positions to flatten")
        attempt = _Attempt(started_ns=clock(), say=self._say)
        deadline_ns = attempt.started_ns + int(deadline_s * NS_PER_S)
        proven = False
        while not proven:
            proven = self._round(attempt, flatten, clock) if execute else self._look(attempt, clock)
            remaining_s = (deadline_ns - clock()) / NS_PER_S
            if proven or remaining_s <= 0:
                break
            wait(min(PAUSE_S, remaining_s))
        if not proven:
            attempt.note(f"not proven within {deadline_s} s")
        return attempt.report(execute=execute, flatten=flatten, proven=proven, finished_ns=clock())

    def _look(self, attempt: _Attempt, clock: Callable[[], int]) -> bool:
        _, whole = self._read_orders(attempt, clock)
        return whole and self._read_positions(attempt) is not None

    def _round(self, attempt: _Attempt, flatten: bool, clock: Callable[[], int]) -> bool:
        """One cancel, read, flatten. True: proven."""
        clean = self._clean_round(attempt, flatten, clock)
        if not clean:
            attempt.clean_since_ns = None
            return False
        now_ns = clock()
        if attempt.clean_since_ns is None:
            attempt.clean_since_ns = now_ns
        return now_ns - attempt.clean_since_ns >= self._quiet_ns

    def _clean_round(self, attempt: _Attempt, flatten: bool, clock: Callable[[], int]) -> bool:
        orders, whole = self._read_orders(attempt, clock)
        own = [order for order in orders if self._is_own(order)]
        attempt.known.update(order.client_order_id for order in own)
        if not whole:  # whose orders the rest are is not known: what is known to be ours goes one by one
            self._cancel_each(attempt, own)
            return False
        if own or not attempt.cancel_sent:  # the first cancel also catches what the read could not show yet
            self._cancel(attempt, own, only_own=len(own) < len(orders))
            return False
        if not self._none_appeared(attempt):
            return False
        positions = self._read_positions(attempt)
        if not flatten:
            return True
        if positions is None:
            return False
        open_positions = [position for position in positions if position.qty]
        for position in open_positions:
            self._reduce(attempt, position)
        return not open_positions

    def _is_own(self, order: AccountOrder) -> bool:
        return order.client_order_id.startswith(self._own_prefix)

    def _none_appeared(self, attempt: _Attempt) -> bool:
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

    def _read_orders(self, attempt: _Attempt, clock: Callable[[], int]) -> tuple[list[AccountOrder], bool]:
        """What could be read, and whether that is all: one symbol that fails keeps no other from being cancelled."""
        orders: list[AccountOrder] = []
        whole = True
        for symbol in self._symbols:
            try:
                orders += self._client.open_orders([symbol])
            except VenueError as error:
                whole = False
                attempt.note(f"reading open orders failed: {error}")
        if whole:
            own = sum(map(self._is_own, orders))
            attempt.reads.append(OrdersRead(clock() // NS_PER_MS, own, len(orders) - own))
        return orders, whole

    def _read_positions(self, attempt: _Attempt) -> list[Position] | None:
        if not self._holds_positions:
            return []
        try:
            positions = self._client.positions(self._symbols)
        except VenueError as error:
            attempt.note(f"reading positions failed: {error}")
            return None
        attempt.positions = {position.symbol: position.qty for position in positions}
        return positions

    def _cancel(self, attempt: _Attempt, own: Sequence[AccountOrder], *, only_own: bool) -> None:
        attempt.cancel_sent = True
        if not only_own:
            for symbol in self._symbols:
                try:
                    attempt.cancelled += self._client.cancel_all(symbol)
                except VenueError as error:
                    attempt.cancel_sent = False
                    attempt.note(f"cancel-all of {symbol} failed: {error}")
            return
        self._cancel_each(attempt, own)

    def _cancel_each(self, attempt: _Attempt, own: Sequence[AccountOrder]) -> None:
        for order in own:
            try:
                attempt.cancelled += self._client.cancel(order)
            except VenueError as error:
                attempt.note(f"cancel of {order.client_order_id} failed: {error}")

    def _reduce(self, attempt: _Attempt, position: Position) -> None:
        """One reduce-only slice towards flat, inside the band around the opposite touch as it is now.

        An unknown outcome needs no probe: the order ends at once, cannot turn the position, and the next read tells.
        """
        try:
            instrument = self._client.instrument(position.symbol)
            top = self._client.top_of_book(position.symbol)
            lots = min(instrument.lots_floor(abs(position.qty)), instrument.lots_floor(instrument.qty_max))
            if lots == 0:
                attempt.note(f"position of {position.symbol} is {position.qty}, less than one lot")
                return
            if position.qty > 0:
                side, ticks = Side.SELL, instrument.ticks_ceil(top.bid * (1 - self._band))
            else:
                side, ticks = Side.BUY, instrument.ticks_floor(top.ask * (1 + self._band))
            self._client.place_immediate(
                ImmediateOrder(
                    attempt.next_flatten_id(),
                    position.symbol,
                    side,
                    instrument.qty(lots),
                    instrument.price(ticks),
                )
            )
        except VenueError as error:
            attempt.note(f"flatten of {position.symbol} failed: {error}")


class _Attempt:
    """What one run has done and seen so far."""

    def __init__(self, started_ns: int, say: Callable[[str], None]) -> None:
        self.started_ns = started_ns
        self.looked = False
        self.known: set[str] = set()
        """client ids of own orders that were seen"""
        self.flattens: set[str] = set()
        """and of those that this run sent itself"""
        self.cancel_sent = False
        self.cancelled = 0
        self.clean_since_ns: int | None = None
        self.reads: list[OrdersRead] = []
        self.positions: dict[str, Decimal] = {}
        self._errors: dict[str, int] = {}
        self._slices = 0
        self._say = say

    def note(self, error: str) -> None:
        """Keeps an error once, with how often it came; the first time it is said."""
        if error not in self._errors:
            self._say(error)
        self._errors[error] = self._errors.get(error, 0) + 1

    def next_flatten_id(self) -> str:
        """Unique for ever, and of the flatten class: epoch 0 (no grant), sequence = start in ms and number."""
        self._slices += 1
        name = f"slwf-0-{self.started_ns // NS_PER_MS}{self._slices:04d}"
        self.flattens.add(name)
        return name

    def report(self, *, execute: bool, flatten: bool, proven: bool, finished_ns: int) -> Report:
        status: Literal["executed", "dry_run", "failed"] = "executed" if execute else "dry_run"
        return Report(
            status=status if proven else "failed",
            started_utc=utc_text(self.started_ns),
            finished_utc=utc_text(finished_ns),
            cancelled=self.cancelled,
            reads=self.reads,
            positions=[PositionLeft(symbol, format(qty, "f")) for symbol, qty in self.positions.items()],
            flattened=execute and flatten and proven,
            errors=[error if count == 1 else f"{error} ({count} times)" for error, count in self._errors.items()],
        )


def utc_text(at_ns: int) -> str:
    """Nanoseconds since the epoch as ISO 8601 in UTC, milliseconds shown."""
    seconds, rest_ns = divmod(at_ns, NS_PER_S)
    stamp = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main(argv: Sequence[str] | None = None) -> int:
    """The subcommand `kill-switch`: exit code 0 proven or dry run, 1 not proven, 2 bad input."""
    from bot.runtime.kill_switch_command import run_command

    return run_command(argv)
