"""What an attempt came to once its account is flat: every execution counts, also those of which its bot never heard.

The bot's own word ends with the bot. At what price and fee the account was then flattened only the venue's executions
tell. A run begins flat and ends flat, so its executions and fundings together are its result, by the bot's own ledger,
net in quote and to the last digit. Where they do not sum to a flat position some are missing: then it is not known.

Nor is it where they sum to flat and lack both a last fill and what flattened it: a venue lists executions late. So what
was held before a flattening has to be their sum at that time, and what the flattening orders have filled be listed,
and so what the newest others of ours have: a bot may die unheard between two fills that end flat.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bot.domain.events import Filled, FundingPaid, InstrumentsRead
from bot.domain.instrument import Instrument
from bot.engine.ledger import Ledger
from bot.journal import JournalError, JournalReader
from bot.runtime.kill_switch_report import FlattenSent
from bot.stores.redis_place import BOOKED, RedisPlace, keep_booked, marker_beside, read_marker

FILE: Final = "booked.json"
"""In the run's state folder, beside its journal. Of one in Redis its `meta` has the same word."""
NS_PER_MS: Final = 1_000_000
HOUR_MS: Final = 3_600_000
"""Whatever a symbol's funding interval: it falls due at a full hour."""
DUE_WITHIN_MS: Final = 5_000
"""So near to the hour the venue may still count a position, or no longer."""
LISTED_MS: Final = 30_000
"""So long after the hour it has listed what fell due."""
READ_WITHIN_MS: Final = 5_000
"""So far the clock of who read a position may be from the venue's."""
FORGOTTEN_MS: Final = 24 * HOUR_MS
"""After so long a venue shows an order no more that filled nothing."""
ASKED_MAX: Final = 50
"""Of a symbol's flattening orders so many are asked for, the newest: a venue takes few questions in a second."""
UNREADABLE: Final = (OSError, ValueError, KeyError, TypeError, InvalidOperation)
INT64_MAX: Final = 2**63 - 1
BEGIN: Final = "SELECT min(at_ns) FROM entry"

Execution = Filled | FundingPaid
Told = Callable[[str, int], tuple[Instrument, Sequence[Execution]]]
"""The venue's word on a symbol since a time (ms): what it is, and its executions, over all pages. Raises VenueError."""


OrdersTold = Callable[[str, int, Sequence[str]], Mapping[str, Decimal]]
"""The venue's word on what a symbol's orders have filled, base, by client order id: of those named, and of the newest
others of ours since a time (ms). One that it does not show is not in it. Raises VenueError."""


class Flattening(NamedTuple):
    """What was held (symbol → base, signed) by a read between these times (ms), and what was sent to flatten it."""

    from_ms: int
    until_ms: int
    held: Mapping[str, Decimal]
    orders: Sequence[FlattenSent]


class NotBooked(Exception):
    """What the attempt came to is not known. One line that says why."""


class _Journalled(NamedTuple):
    executions: tuple[Execution, ...]
    lot_sizes: dict[str, set[Decimal]]
    first_ms: int


class Booked(NamedTuple):
    """The file's word. `net_quote` None: it is not known, and `why` says why not.

    `account` and `mode` say whose result it is where no journal does; empty where they were not noted.
    """

    at_ns: int
    net_quote: Decimal | None
    why: str = ""
    account: str = ""
    mode: str = ""


def booked_net(
    journal: Path,
    symbols: Sequence[str],
    told: Told,
    begun_ms: int,
    asked_at_ms: int,
    flattenings: Sequence[Flattening] = (),
    filled: OrdersTold = lambda _symbol, _since_ms, _names: {},
) -> Decimal:
    """The result of a run whose account is flat now, `asked_at_ms`. Raises NotBooked, and what `told`, `filled` raise.

    `begun_ms`: before its first order and after the last of the run before it, for a journal that cannot be read. The
    venue is asked for all of the run, a page for each hundred executions: how far the bot has heard of them its journal
    does not tell, and what it missed may sum to flat, as a funding always does.
    """
    known = _journalled(journal, symbols)
    since_ms = begun_ms if known is None else known.first_ms
    ledger = Ledger(symbols)
    for symbol in symbols:
        instrument, executions = told(symbol, since_ms)
        if known is not None and known.lot_sizes.get(symbol, set()) - {instrument.lot_size}:
            raise NotBooked(f"{symbol} has another lot size than in {journal}")
        own = () if known is None else known.executions
        of_symbol = [*(one for one in own if one.symbol == symbol), *executions]
        if instrument.category == "linear" and _funding_is_awaited(of_symbol, asked_at_ms):
            raise NotBooked(
                f"{symbol}: a funding that fell due less than {LISTED_MS // 1000} s ago may not be listed yet"
            )
        fills = list({one.execution_id: one for one in of_symbol if isinstance(one, Filled)}.values())
        _require_orders(symbol, instrument, fills, flattenings, partial(filled, symbol, since_ms), asked_at_ms)
        _require_held(symbol, instrument, fills, flattenings)
        for one in of_symbol:
            if isinstance(one, Filled):
                ledger.record(one, instrument)
            else:
                ledger.record_funding(one)
    open_lots = {name: one.position_lots for name, one in ledger.accounts.items() if one.position_lots}
    if open_lots:
        held = ", ".join(f"{name} {lots} lots" for name, lots in open_lots.items())
        raise NotBooked(f"the account is flat, and its executions sum to {held}: some are missing")
    return sum((one.net_realized_quote for one in ledger.accounts.values()), Decimal(0))


def _funding_is_awaited(executions: Sequence[Execution], asked_at_ms: int) -> bool:
    """Whether one may have fallen due, at the last full hour, that the venue lists a moment later."""
    due_ms = asked_at_ms - asked_at_ms % HOUR_MS
    from_ns, until_ns = ((due_ms + by_ms) * NS_PER_MS for by_ms in (-DUE_WITHIN_MS, DUE_WITHIN_MS))
    if asked_at_ms - due_ms >= LISTED_MS:
        return False
    if any(isinstance(one, FundingPaid) and one.venue_at_ns >= from_ns for one in executions):
        return False
    fills = {one.execution_id: one for one in executions if isinstance(one, Filled)}.values()
    held_lots = sum(one.side.sign * one.qty_lots for one in fills if one.venue_at_ns < from_ns)
    return held_lots != 0 or any(from_ns <= one.venue_at_ns <= until_ns for one in fills)


def _require_orders(
    symbol: str,
    instrument: Instrument,
    fills: Sequence[Filled],
    flattenings: Sequence[Flattening],
    filled: Callable[[Sequence[str]], Mapping[str, Decimal]],
    asked_at_ms: int,
) -> None:
    """Raises NotBooked where a flattening order, or another of ours, has filled what is not listed."""
    sent = {
        order.client_order_id: (one, order) for one in flattenings for order in one.orders if order.symbol == symbol
    }
    names = list(sent)[-ASKED_MAX:]
    shown = filled(names)
    listed = {name: Decimal(0) for name in (*names, *shown)}
    for fill in fills:
        if fill.client_order_id in listed:
            listed[fill.client_order_id] += instrument.qty(fill.qty_lots)
    for name, qty in shown.items():
        if listed[name] != qty:
            raise NotBooked(f"{symbol}: {name} filled {qty:f}, of which {listed[name]:f} is listed")
    for name in names:
        flattening, order = sent[name]
        forgotten = asked_at_ms - flattening.until_ms >= FORGOTTEN_MS
        if order.taken and name not in shown and not listed[name] and not forgotten:
            raise NotBooked(f"{symbol}: {name} was taken by the venue, which does not show it")


def _require_held(
    symbol: str, instrument: Instrument, fills: Sequence[Filled], flattenings: Sequence[Flattening]
) -> None:
    """Raises NotBooked where the executions listed do not add up to what was held, at any moment near that read."""
    in_order = sorted(fills, key=lambda one: one.venue_at_ns)
    for flattening in flattenings:
        held = flattening.held.get(symbol, Decimal(0))
        from_ns = (flattening.from_ms - READ_WITHIN_MS) * NS_PER_MS
        until_ns = (flattening.until_ms + READ_WITHIN_MS) * NS_PER_MS
        lots = sum(one.side.sign * one.qty_lots for one in in_order if one.venue_at_ns < from_ns)
        sums = {lots}
        for one in in_order:
            if from_ns <= one.venue_at_ns <= until_ns:
                lots += one.side.sign * one.qty_lots
                sums.add(lots)
        if held not in {one * instrument.lot_size for one in sums}:
            raise NotBooked(
                f"{symbol}: {held:f} was held before it was flattened, and its executions do not add up to that"
            )


def write_booked(state_dir: Path, booked: Booked, elsewhere: Callable[[], RedisPlace | None] | None = None) -> None:
    """Leaves it beside the journal, whole or not at all, also where the machine is lost; and with one in Redis, where
    another machine finds it. Raises OSError; JournalError where it is left in the folder alone.

    `elsewhere`: asked where the folder has no journal and none is named there: where it is kept in Redis, if it is.
    """
    net = None if booked.net_quote is None else f"{booked.net_quote:f}"
    word = json.dumps({**booked._asdict(), "net_quote": net})
    path = state_dir / FILE
    state_dir.mkdir(parents=True, exist_ok=True)  # a machine that took the account over has none of this run
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(word)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    journal = state_dir / "journal.db"
    marker = marker_beside(journal)
    if journal.exists():
        return
    place = read_marker(marker) if marker.exists() else None if elsewhere is None else elsewhere()
    if place is not None:
        keep_booked(place, word)


def read_booked(state_dir: Path) -> Booked | None:
    """What was left beside that journal; None where nothing was. One that cannot be read is not known, as of when the
    file was written: it must not count for longer than a result."""
    path = state_dir / FILE
    if not path.exists():
        return None
    try:
        return _read(path.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        return _unread(path, error, _written_at_ns(path))


def booked_in(meta: Mapping[str, str], place: object, newest_at_ns: int) -> Booked | None:
    """The same of a journal in Redis, by its `meta`. `newest_at_ns`: of its entries, for a word that cannot be read."""
    word = meta.get(BOOKED)
    if word is None:
        return None
    try:
        return _read(word)
    except UNREADABLE as error:
        return _unread(place, error, newest_at_ns)


def _read(word: str) -> Booked:
    told = json.loads(word)
    net = told["net_quote"]
    net_quote = None if net is None else Decimal(str(net))
    if net_quote is not None and not net_quote.is_finite():
        raise InvalidOperation
    whose = (str(told.get("account", "")), str(told.get("mode", "")))
    return Booked(int(told["at_ns"]), net_quote, str(told["why"]), *whose)


def _unread(place: object, error: Exception, at_ns: int) -> Booked:
    return Booked(at_ns, None, f"{place}: not a result ({type(error).__name__})")


def _written_at_ns(path: Path) -> int:
    """The end of time where that is not told either: then it counts whenever it is asked for."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return INT64_MAX


def _journalled(journal: Path, symbols: Sequence[str]) -> _Journalled | None:
    """None where the journal cannot be read, or has nothing in it: then the venue alone tells."""
    wanted = set(symbols)
    try:
        with JournalReader(journal) as reader:
            ((first_ns,),) = reader.rows(BEGIN)
            fills = [msgspec.json.decode(one.body, type=Filled) for one in reader.entries(kind="Filled")]
            paid = [msgspec.json.decode(one.body, type=FundingPaid) for one in reader.entries(kind="FundingPaid")]
            lot_sizes: dict[str, set[Decimal]] = {}
            for entry in reader.entries(kind="InstrumentsRead"):
                read = msgspec.json.decode(entry.body, type=InstrumentsRead)
                lot_sizes.setdefault(read.symbol, set()).add(read.lot_size)
    except (JournalError, OSError, sqlite3.Error, msgspec.MsgspecError):
        return None
    if first_ns is None:
        return None
    known: tuple[Execution, ...] = (*fills, *paid)
    executions = tuple(one for one in known if one.symbol in wanted)
    return _Journalled(executions, lot_sizes, first_ns // NS_PER_MS)
