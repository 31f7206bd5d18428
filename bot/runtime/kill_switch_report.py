"""What one run of the kill switch has done and seen so far, and the report that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal

import msgspec

from bot.domain.order import FLATTEN_PREFIX

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
NO_GRANT: Final = f"{FLATTEN_PREFIX}-0-"
"""How the id of an order begins that flattens without a bot and its grant: the flatten class, epoch 0."""
NUMBER_DIGITS: Final = 4


class OrdersRead(msgspec.Struct, frozen=True):
    """One read of open orders that succeeded, all symbols together."""

    at_ms: int
    own_open: int
    foreign_open: int


class PositionLeft(msgspec.Struct, frozen=True):
    """A position as last read. `qty`: base, signed, as digits."""

    symbol: str
    qty: str


class FlattenSent(msgspec.Struct, frozen=True):
    """A flattening order that was sent. `taken`: the venue said so; else it may have happened, and nobody was told."""

    symbol: str
    client_order_id: str
    taken: bool


class Report(msgspec.Struct, frozen=True):
    """What was done and what is proven. `flattened`: asked for and proven by a read. `positions`: as last read.
    `flattens`: the orders that were sent to flatten, but for those that did not happen for sure."""

    status: Literal["executed", "dry_run", "failed"]
    started_utc: str
    finished_utc: str
    cancelled: int
    reads: list[OrdersRead]
    positions: list[PositionLeft]
    flattened: bool
    errors: list[str]
    flattens: list[FlattenSent] = []

    @property
    def exit_code(self) -> int:
        """0 where what was asked is proven, 1 where not."""
        return 1 if self.status == "failed" else 0


class Attempt:
    """What one run has done and seen so far."""

    def __init__(self, started_ns: int, say: Callable[[str], None]) -> None:
        self.started_ns = started_ns
        self.looked = False
        self.whole = False
        """whether the newest read of open orders was one of all that was asked for"""
        self.blind_ns: int | None = None
        self.blind_at = 0
        """which of the orders that were written down is cancelled next without a read"""
        self.known: set[str] = set()
        """client ids of own orders that were seen, or written down"""
        self.ended: set[str] = set()
        """client ids whose rows do not fit and of which the venue says that they have ended"""
        self.flattens: set[str] = set()
        """and of those that this run sent itself"""
        self.sent: list[FlattenSent] = []
        """the same, but for those that did not happen for sure"""
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
        name = f"{NO_GRANT}{self.started_ns // NS_PER_MS}{self._slices:0{NUMBER_DIGITS}d}"
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
            flattens=list(self.sent),
        )


def flatten_named_at_ms(client_order_id: str) -> int | None:
    """When whoever sent this flattening order began, ms since the epoch, by its id; None of any other order."""
    name = client_order_id.removeprefix(NO_GRANT)
    if name == client_order_id or not (name.isascii() and name.isdecimal()) or len(name) <= NUMBER_DIGITS:
        return None
    return int(name[:-NUMBER_DIGITS])


def utc_text(at_ns: int) -> str:
    """Nanoseconds since the epoch as ISO 8601 in UTC, milliseconds shown."""
    seconds, rest_ns = divmod(at_ns, NS_PER_S)
    stamp = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
