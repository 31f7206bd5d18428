"""Reconciliation: does the venue's account look like ours? Compared every `recon_interval_s`, from whole reads.

A difference seen once is a suspicion (a message may be on its way); it asks for a second read `recon_confirm_s` later.
Seen again there, with no execution between, it is counted, and only then acted on. What a read cannot know (changed
after it was asked) is no suspicion. A read that failed says nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal

import msgspec

from bot.domain.events import ExecutionsSwept, Filled, OpenOrdersRead, OrderStatus, PositionRead, VenueOrder
from bot.domain.instrument import Instrument
from bot.domain.intent import CancelOrder, ReadAccount
from bot.domain.order import FLATTEN_PREFIX, OWN_PREFIX, OrderHappening, OrderState
from bot.engine.ledger import ZERO, Account
from bot.engine.orders import OwnOrder
from bot.engine.parameters import NS_PER_S, seconds_ns
from bot.engine.state import NEVER_NS, State
from bot.engine.stopping import CANCELLABLE, Stopping, probe_soon, send_cancel

_WORKING: Final = OrderState.WORKING
_SHOWN_WORKING: Final = OrderStatus.WORKING
_FLATTEN_GRACE_NS = 5 * NS_PER_S
_RE_CANCEL_NS = 2 * NS_PER_S

Kind = Literal["orders_local_only", "orders_remote_only"]


class Suspicion(msgspec.Struct):
    """An order that one side does not know. `first_ns`: when the first read that showed it was asked."""

    first_ns: int
    counted: bool = False
    cancelled_ns: int = 0


class Mismatch(msgspec.Struct):
    """A position that differs: the venue's and ours, and when the first such read was asked.

    `executed_lots`: what was executed since the latest such read was asked (`last_ns`), signed: it is not in it.
    """

    first_ns: int
    last_ns: int
    own_lots: int
    venue_lots: int
    entry_price: Decimal
    dust_base: Decimal = ZERO
    executed_lots: int = 0
    counted: bool = False


class Sweep(msgspec.Struct):
    """An execution that a read told and the private stream had not.

    `first_ns`: when that read was asked, or the first after the latest execution since; `up_since_ns`: the stream's.
    """

    symbol: str
    first_ns: int
    up_since_ns: int


class Reconciliation:
    """Suspicions and what became of them."""

    def __init__(self, state: State, stopping: Stopping) -> None:
        self._state = state
        self._stopping = stopping
        self._suspicions: dict[tuple[str, Kind, str], Suspicion] = {}
        self._mismatches: dict[str, Mismatch] = {}
        self._read_due_ns: dict[str, int] = {}
        parameters = state.parameters
        self._symbols: Final = parameters.symbols
        self._interval_ns = seconds_ns(min(parameters.recon_interval_s, parameters.position_check_s))
        self._swept: dict[str, Sweep] = {}
        self._told_ns: dict[str, int] = {}
        """symbol → when the private stream last told an execution"""
        self._foreign: dict[str, int] = {}
        self._answers: dict[str, set[str]] = {symbol: set() for symbol in state.parameters.symbols}
        self.drift_pct: dict[str, Decimal] = {}
        """symbol → drift as last established: 0 on a read that agrees, else counted; absent before the first"""

    # ---- asking ----

    @property
    def due_ns(self) -> int:
        """When the next read is due."""
        first_ns = NEVER_NS
        for symbol in self._symbols:
            due_ns = self._read_due_ns.get(symbol, 0)
            if due_ns < first_ns:
                first_ns = due_ns
        return first_ns

    def tick(self) -> None:
        """Ask for the reads that are due."""
        state = self._state
        for symbol in self._symbols:
            due_ns = self._read_due_ns.get(symbol, 0)
            if state.now_ns >= due_ns:
                self._read_due_ns[symbol] = state.now_ns + self._interval_ns
                state.emit(ReadAccount(state.now_ns, symbol))

    def read_soon(self, symbol: str, wait_ns: int = 0) -> None:
        """Ask within `wait_ns`, or earlier where a read is due anyway."""
        wanted_ns = self._state.now_ns + wait_ns
        if wanted_ns < self._read_due_ns.get(symbol, wanted_ns + 1):
            self._read_due_ns[symbol] = wanted_ns
            self._state.due_by(wanted_ns)

    # ---- open orders ----

    def orders_read(self, event: OpenOrdersRead) -> None:
        """Compare open orders."""
        open_ids: dict[str, VenueOrder] = {
            order.client_order_id: order for order in event.orders if order.status is _SHOWN_WORKING
        }
        seen: dict[tuple[str, Kind, str], None] = {}
        for client_order_id in open_ids:
            if client_order_id.startswith(OWN_PREFIX) and self._unknown_to_us(client_order_id, event.asked_at_ns):
                seen[(event.symbol, "orders_remote_only", client_order_id)] = None
        for own in self._state.orders.live(event.symbol):
            shown = open_ids.get(own.client_order_id)
            if shown is not None:
                own.shown_ns = max(own.shown_ns, event.asked_at_ns)
            if own.state is not _WORKING:
                continue
            if shown is not None:
                self._settle_filled(own, shown)
            elif own.confirmed and own.sent_at_ns < event.asked_at_ns and own.changed_at_ns < event.asked_at_ns:
                seen[(event.symbol, "orders_local_only", own.client_order_id)] = None
        self._foreigners(event)
        self._forget_cleared(event.symbol, seen)
        for key in seen:
            self._suspect(key, event.asked_at_ns, open_ids.get(key[2]))
        self._answered(event.symbol, "orders")

    def _settle_filled(self, own: OwnOrder, venue: VenueOrder) -> None:
        """A read says that more is filled than we accounted for: it counts at its worst until the executions come."""
        if venue.filled_lots > own.reported_lots:
            own.reported_lots = venue.filled_lots
            self._state.orders.recount(own)

    def _foreigners(self, event: OpenOrdersRead) -> None:
        """Orders that are not ours: told once each, and cancelled where the account is ours alone."""
        state = self._state
        for order in event.orders:
            if order.client_order_id.startswith(OWN_PREFIX) or order.status is not _SHOWN_WORKING:
                continue
            name = order.venue_order_id or order.client_order_id
            told_ns = self._foreign.get(name)
            if told_ns is None:
                state.note("WARNING", "foreign_order", symbol=event.symbol, venue_order_id=order.venue_order_id,
                           client_order_id=order.client_order_id)  # fmt: skip
            elif state.parameters.foreign_orders == "report" or state.now_ns - told_ns < _RE_CANCEL_NS:
                continue
            self._foreign[name] = state.now_ns
            if state.parameters.foreign_orders == "cancel":
                cancel_orphan(state, event.symbol, order.client_order_id, order.venue_order_id)

    def _unknown_to_us(self, client_order_id: str, asked_at_ns: int) -> bool:
        own = self._state.orders.get(client_order_id)
        if own is None:
            return True
        return not own.live and own.finished_at_ns < asked_at_ns

    def _forget_cleared(self, symbol: str, seen: dict[tuple[str, Kind, str], None]) -> None:
        if not self._suspicions:
            return
        for key in [key for key in self._suspicions if key[0] == symbol and key not in seen]:
            del self._suspicions[key]
            if key[2] in self._state.planned_orphans:
                self._state.stops.cause_gone("drill_orphan", self._state.now_ns)

    def _suspect(self, key: tuple[str, Kind, str], asked_at_ns: int, venue: VenueOrder | None) -> None:
        symbol, kind, client_order_id = key
        suspicion = self._suspicions.get(key)
        if suspicion is None:
            self._suspicions[key] = Suspicion(asked_at_ns)
            self.read_soon(symbol, seconds_ns(self._state.parameters.recon_confirm_s))
            return
        confirm_ns = seconds_ns(self._state.parameters.recon_confirm_s)
        if client_order_id.startswith(FLATTEN_PREFIX):
            confirm_ns = max(confirm_ns, _FLATTEN_GRACE_NS)
        if asked_at_ns - suspicion.first_ns < confirm_ns:
            self.read_soon(symbol, suspicion.first_ns + confirm_ns - asked_at_ns)
            return
        if not suspicion.counted:
            suspicion.counted = True
            self._count(kind, symbol, client_order_id)
            if kind == "orders_remote_only":
                self._revive(client_order_id)
                planned = client_order_id in self._state.planned_orphans
                reason = "drill_orphan" if planned else "recon_divergence"
                self._stopping.enter(reason, f"{kind} {client_order_id}")
        if kind == "orders_remote_only":
            self._cancel_orphan(suspicion, symbol, client_order_id, venue)
        else:
            self._doubt_local(client_order_id)

    def _cancel_orphan(self, suspicion: Suspicion, symbol: str, client_order_id: str, venue: VenueOrder | None) -> None:
        state = self._state
        if suspicion.cancelled_ns and state.now_ns - suspicion.cancelled_ns < _RE_CANCEL_NS:
            return
        suspicion.cancelled_ns = state.now_ns
        cancel_orphan(state, symbol, client_order_id, "" if venue is None else venue.venue_order_id)

    def _revive(self, client_order_id: str) -> None:
        """One of ours that we believed ended: what it may still cost counts again, and it goes."""
        order = self._state.orders.get(client_order_id)
        if order is not None and not order.live:
            self._state.orders.happen(order, OrderHappening.FOUND_WORKING, self._state.now_ns)

    def _doubt_local(self, client_order_id: str) -> None:
        """Ours, but not at the venue. A probe decides: open there after all, it is cancelled; gone, it has ended.

        The read that is asked for sweeps executions first, so that its fills are accounted for before it is gone.
        """
        state = self._state
        order = state.orders.get(client_order_id)
        if order is not None and order.state is OrderState.WORKING:
            order.unwanted = True
            state.orders.happen(order, OrderHappening.UNCERTAIN, state.now_ns)
            probe_soon(state, order)
            state.emit(ReadAccount(state.now_ns, order.symbol))

    # ---- executions ----

    def swept(self, event: ExecutionsSwept) -> None:
        """Executions that came by a read, accounted for at once. Under load a read overtakes the stream: late only.

        What the stream has still not told by a second read, with no execution between, is counted. What happened while
        the stream was down, or before it broke, is no divergence: catching up is what the read is for.
        """
        state = self._state
        confirm_ns = seconds_ns(state.parameters.recon_confirm_s)
        for execution_id, sweep in list(self._swept.items()):
            if sweep.symbol == event.symbol:
                self._doubt_stream(execution_id, sweep, event.asked_at_ns, confirm_ns)
        for execution_id, venue_at_ns in event.executions:
            up_since_ns = state.private_up_since_ns
            if up_since_ns and venue_at_ns > up_since_ns and not state.ledger.knows(execution_id):
                self._swept[execution_id] = Sweep(event.symbol, event.asked_at_ns, up_since_ns)
                self.read_soon(event.symbol, confirm_ns)

    def _doubt_stream(self, execution_id: str, sweep: Sweep, asked_at_ns: int, confirm_ns: int) -> None:
        """A later read, and the stream has not told that execution yet."""
        if sweep.up_since_ns != self._state.private_up_since_ns:
            del self._swept[execution_id]
            return
        if self._told_ns.get(sweep.symbol, 0) >= sweep.first_ns:
            sweep.first_ns = asked_at_ns
        wait_ns = sweep.first_ns + confirm_ns - asked_at_ns
        if wait_ns > 0:
            self.read_soon(sweep.symbol, wait_ns)
            return
        del self._swept[execution_id]
        self._count("unrecorded_fills", sweep.symbol, execution_id)
        self._stopping.enter("recon_divergence", f"unrecorded_fills {execution_id}")

    def filled(self, event: Filled) -> None:
        """Call before a fill is accounted for: the stream told it, after all or first; unless it follows its read."""
        told_by_read = event.execution_id in self._swept and not self._state.ledger.knows(event.execution_id)
        if not told_by_read:
            self._swept.pop(event.execution_id, None)
            self._told_ns[event.symbol] = self._state.now_ns
        mismatch = self._mismatches.get(event.symbol)
        is_later = mismatch is not None and event.venue_at_ns > mismatch.last_ns
        if mismatch is not None and is_later and not self._state.ledger.knows(event.execution_id):
            mismatch.executed_lots += event.side.sign * event.qty_lots

    # ---- position ----

    def position_read(self, event: PositionRead) -> None:
        """Compare a position; executions since it was asked make it incomparable."""
        state, symbol = self._state, event.symbol
        self._answered(symbol, "position")
        if state.last_execution_ns[symbol] >= event.asked_at_ns:
            self._mismatches.pop(symbol, None)
            return
        own_lots = state.ledger.accounts[symbol].position_lots
        instrument = state.instruments.get(symbol)
        if own_lots == event.qty_lots or same_position(state.ledger.accounts[symbol], event, instrument):
            self._mismatches.pop(symbol, None)
            self.drift_pct[symbol] = Decimal(0)
            return
        known = self._mismatches.get(symbol)
        same = known is not None and (known.own_lots, known.venue_lots) == (own_lots, event.qty_lots)
        if known is None or not same or state.last_execution_ns[symbol] >= known.first_ns:
            self._mismatches[symbol] = Mismatch(
                event.asked_at_ns, event.asked_at_ns, own_lots, event.qty_lots, event.entry_price, event.dust_base
            )
            self.read_soon(symbol, seconds_ns(state.parameters.recon_confirm_s))
            return
        known.last_ns = event.asked_at_ns
        if known.counted:
            pass
        elif event.asked_at_ns - known.first_ns >= seconds_ns(state.parameters.recon_confirm_s):
            self._count_mismatch(symbol, known)
        else:
            wait_ns = known.first_ns + seconds_ns(state.parameters.recon_confirm_s) - event.asked_at_ns
            self.read_soon(symbol, wait_ns)

    def _count_mismatch(self, symbol: str, mismatch: Mismatch) -> None:
        state = self._state
        mismatch.counted = True
        detail = f"{symbol} own {mismatch.own_lots} venue {mismatch.venue_lots} lots"
        self._count("position_mismatch", symbol, detail)
        drift_pct = Decimal(abs(mismatch.own_lots - mismatch.venue_lots) * 100) / max(abs(mismatch.venue_lots), 1)
        self.drift_pct[symbol] = drift_pct
        self._stopping.enter("recon_divergence", detail)
        if drift_pct > state.parameters.position_drift_pct_max:
            state.counters.add("mm_limit_breaches_total", "position_drift")
            self._stopping.enter("position_drift", f"{detail}, {drift_pct:.2f} %")

    def adopt_venue_positions(self) -> None:
        """People confirmed a resume: the venue's positions that differed are taken over as they are by now."""
        for symbol, mismatch in list(self._mismatches.items()):
            if mismatch.counted and symbol in self._state.instruments:
                instrument = self._state.instruments[symbol]
                lots = mismatch.venue_lots + mismatch.executed_lots
                adopt(self._state, symbol, lots, mismatch.entry_price, instrument, mismatch.dust_base)
                del self._mismatches[symbol]

    # ---- shared ----

    def _count(self, kind: str, symbol: str, detail: str) -> None:
        self._state.counters.add("mm_recon_divergence_total", kind)
        self._state.note("WARNING", "recon_divergence", type=kind, symbol=symbol, detail=detail)

    def _answered(self, symbol: str, part: str) -> None:
        """A run has finished when every symbol's orders and position were read."""
        self._answers[symbol].add(part)
        for parts in self._answers.values():
            if len(parts) < 2:
                return
        for parts in self._answers.values():
            parts.clear()
        self._state.counters.add("mm_recon_runs_total")


def same_position(account: Account, event: PositionRead, instrument: Instrument | None) -> bool:
    """Whether ours is what was read. Of spot, less than a lot apart is the same: fees round the coin at both ends."""
    if account.position_lots == event.qty_lots:
        return True
    if instrument is None or instrument.category != "spot":
        return False
    apart = instrument.qty(account.position_lots - event.qty_lots) + account.dust_base - event.dust_base
    return abs(apart) < instrument.lot_size


def adopt(
    state: State,
    symbol: str,
    position_lots: int,
    entry_price: Decimal,
    instrument: Instrument,
    dust_base: Decimal = ZERO,
) -> None:
    """Take over the venue's position, and write down that it was: after a restart it is taken over again."""
    state.bring_equity_up()  # to what it was with the position as it was
    state.due_ns = 0
    state.ledger.adopt(symbol, position_lots, entry_price, instrument, dust_base)
    state.orders.touch(symbol)
    state.adopted_ns[symbol] = state.now_ns
    dust = {"dust_base": str(dust_base)} if dust_base else {}
    price = str(entry_price)
    state.note("INFO", "position_adopted", symbol=symbol, position_lots=position_lots, entry_price=price, **dust)


def cancel_orphan(state: State, symbol: str, client_order_id: str, venue_order_id: str) -> None:
    """Cancel an order that we do not know. Where we believed that it had ended, it is ours to follow again."""
    state.due_ns = 0
    order = state.orders.get(client_order_id)
    if order is not None and order.state in CANCELLABLE:
        order.venue_order_id = venue_order_id or order.venue_order_id
        send_cancel(state, order)
    else:
        state.cancel_budget.spend(state.now_ns)
        state.cancel_rate.spend(state.now_ns)
        key = f"{client_order_id or venue_order_id}.x{state.now_ns}"
        state.emit(CancelOrder(state.now_ns, client_order_id, symbol, venue_order_id, key))
    state.note("WARNING", "orphan_order_canceled", client_order_id=client_order_id, symbol=symbol)
