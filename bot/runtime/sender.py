"""Carries intents out through the venue port and turns what came of them into events.

Each intent is a task of its own, or a request that a callback hears of, so that a slow answer holds up neither market
data nor another intent; cancels are started before anything that adds risk. A create or amend takes a second look at
the grant at the moment of sending.
A failed read becomes `ReadFailed`: it never looks like an empty answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, get_args

from msgspec import structs

from bot.domain.events import (
    AmendAnswered,
    CancelAllAnswered,
    CancelAnswered,
    Event,
    ExecutionsSwept,
    Filled,
    FundingPaid,
    OpenOrdersRead,
    OrderAccepted,
    OrderNotFound,
    OrderRefused,
    OrderUncertain,
    OrderUnreachable,
    OrderUpdated,
    PositionRead,
    ReadFailed,
    StopRequested,
)
from bot.domain.instrument import Instrument, NotOnGrid, unlisted
from bot.domain.intent import (
    AmendOrder,
    CancelAll,
    CancelOrder,
    FlattenReduceOnly,
    Intent,
    Mutation,
    Note,
    PlaceOrder,
    ProbeOrder,
    ReadAccount,
    ResyncBook,
)
from bot.runtime.grant import GrantHolder
from bot.runtime.keys import Keys
from bot.runtime.own_orders import OwnOrders
from bot.runtime.statement import StatementReader
from bot.runtime.symbol_filters import SymbolFilters
from bot.venues.port import (
    Accepted,
    Ended,
    ImmediateOrder,
    Outcome,
    Refused,
    Unknown,
    Unreachable,
    VenueError,
    VenuePort,
)

Work = Coroutine[object, object, None]

EXECUTIONS_KEPT: Final = 10_000
EXECUTIONS_OVERLAP_MS: Final = 10_000
"""Executions are asked for from this long before the newest known one: late ones are caught, known ones dropped."""

KEYS_KEPT: Final = 20_000
"""Idempotency keys of mutations that are remembered."""

FIRST: Final = (CancelAll, CancelOrder)
"""Cancels overtake everything else."""
_FIRST: Final = frozenset(FIRST)

_KEYED: Final = frozenset((AmendOrder, CancelOrder, CancelAll))
"""Mutations that carry a key of their own; of all others it is the order's id."""

_CANCEL: Final = CancelOrder
_AMEND: Final = AmendOrder
_ACCEPTED: Final = Accepted
_REFUSED: Final = Refused
_UNREACHABLE: Final = Unreachable
"""By `isinstance` such a question would be put to the types' own metaclass."""

_MUTATIONS: Final = frozenset(get_args(Mutation))
_ORDERED: Final = frozenset((PlaceOrder, AmendOrder))
_SINGLE: Final = frozenset((PlaceOrder, AmendOrder, CancelOrder))

_LATENCY: Final = "mm_execution_latency_seconds"
_TICK_TO_DECISION: Final = ("tick_to_decision",)
_DECISION_TO_SEND: Final = ("decision_to_send",)

NO_GRANT: Final = "no unexpired grant of that epoch at the moment of sending"


class _Begun:
    """A mutation that has left and has no task."""

    __slots__ = ("_sender", "intent")

    def __init__(self, sender: Sender, intent: PlaceOrder | AmendOrder | CancelOrder) -> None:
        self._sender = sender
        self.intent = intent

    def ended(self, outcome: Ended) -> None:
        self._sender.ended(self, outcome)


class Sender:
    """`tell`: the engine's door; `failed`: told of an exception that nobody expected, and where."""

    def __init__(
        self,
        port: VenuePort,
        grant: GrantHolder,
        now_ns: Callable[[], int],
        tell: Callable[[Event], None],
        failed: Callable[[BaseException, str], None],
        *,
        reads_fees: bool = False,
        account_is_ours: bool = False,
    ) -> None:
        self._port = port
        self._begins: Callable[..., asyncio.Future[Any] | None] | None = getattr(port, "begin", None)
        self._steps_due = False
        """Whether tasks were started that have not begun: what is begun now would overtake them"""
        self._grant = grant
        self._now_ns = now_ns
        self._tell = tell
        self._failed = failed
        self._statement = StatementReader(port, now_ns, tell, reads_fees=reads_fees)
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun: dict[_Begun, asyncio.Future[Any]] = {}
        """what nobody was told of yet; several may share a future, and one may be told long before the others"""
        self._executions: OrderedDict[str, None] = OrderedDict()
        self._executions_since_ms: dict[str, int] = {}
        self._swept: dict[str, None] = {}
        self._keys = Keys(KEYS_KEPT)
        self.duplicate_operations = 0
        self._uncertain_ns: int | None = None
        """when a create last had no answer that says whether it happened"""
        self._observations: list[tuple[str, tuple[str, ...], float]] = []
        self.instruments: dict[str, Instrument] = {}
        self.filters: SymbolFilters | None = None
        """who sees to it that filters are read again, where anybody does"""
        self._is_closed = False
        self.own_orders = OwnOrders(port, self.instruments, now_ns, alone=account_is_ours)

    def send(self, intents: Sequence[Intent]) -> None:
        """Starts every intent that concerns the venue, cancels first; others are not the sender's.

        Nothing once it is closed: what comes in while the process ends would meet a session that is gone.
        """
        if self._is_closed:
            return
        for intent in _cancels_first(intents):
            kind = type(intent)
            if kind is Note or (kind in _MUTATIONS and self._sent_before(_key(intent))):  # type: ignore[arg-type]
                continue
            if kind in _SINGLE and not self._steps_due and self._begin(intent):  # type: ignore[arg-type]
                continue
            work = self._work(intent)
            if work is not None:
                self._start(work, kind.__name__)

    def _begin(self, intent: PlaceOrder | AmendOrder | CancelOrder) -> bool:
        """Whether it has left, without a task; where it has not, nothing was done."""
        begins = self._begins
        if begins is None:
            return False
        now_ns = self._now_ns()
        if type(intent) is not _CANCEL and not self._grant.valid(intent.epoch, now_ns):  # type: ignore[union-attr]
            return False
        begun = _Begun(self, intent)
        try:
            under_way = begins(intent, self.instruments.get(intent.symbol), begun.ended)
        except Exception as error:  # noqa: BLE001 - as of a task, and what was decided beside it still leaves
            if type(intent) is PlaceOrder:
                self.own_orders.sent(intent.symbol, intent.client_order_id)  # how far it came is not known
            self.ended(begun, error)
            return True
        if under_way is None:
            return False
        self._begun[begun] = under_way
        if type(intent) is PlaceOrder:
            self._observations.append((_LATENCY, _DECISION_TO_SEND, (now_ns - intent.at_ns) / 1e9))
            self.own_orders.sent(intent.symbol, intent.client_order_id)
        return True

    def ended(self, begun: _Begun, outcome: Ended) -> None:
        """What was begun has come to this."""
        intent = begun.intent
        if begun in self._begun:
            del self._begun[begun]
        if type(outcome) is not _ACCEPTED and isinstance(outcome, BaseException):
            if not isinstance(outcome, asyncio.CancelledError):
                self._failed(outcome, f"sending {type(intent).__name__}")
            return
        try:
            if type(intent) is _AMEND:
                self._amended(intent, outcome)
            elif type(intent) is PlaceOrder:
                if self._placed(intent, outcome) and self.filters is not None:
                    self._start(self.filters.look(intent.symbol), "PlaceOrder")
            elif type(intent) is CancelOrder:
                self._cancelled(intent, outcome)
        except Exception as error:  # noqa: BLE001 - as of a task: counted, logged, ends the run
            self._failed(error, f"sending {type(intent).__name__}")

    def _sent_before(self, key: str) -> bool:
        """Whether a mutation under that key was carried out (or is): its first result stands, nothing is sent."""
        if not key:
            return False
        if self._keys.add(key):
            return False
        self.duplicate_operations += 1
        return True

    def hold_back(self, intents: Sequence[Intent], why: str) -> list[Intent]:
        """Answers everything that would add risk as not sent; what is left may go out."""
        left: list[Intent] = []
        for intent in intents:
            if isinstance(intent, PlaceOrder | FlattenReduceOnly):
                self._tell(OrderUnreachable(self._now_ns(), intent.client_order_id, why))
            elif isinstance(intent, AmendOrder):
                self._tell(_amend_answer(self._now_ns(), intent, Unreachable(why)))
            else:
                left.append(intent)
        return left

    def known_execution(self, execution: Filled | FundingPaid) -> bool:
        """Whether this execution was told before; remembers it."""
        number = identity_of(execution)
        if number in self._executions:
            return True
        self._executions[number] = None
        while len(self._executions) > EXECUTIONS_KEPT:
            self._executions.popitem(last=False)
        newest_ms = execution.venue_at_ns // 1_000_000
        self._executions_since_ms[execution.symbol] = max(newest_ms, self._executions_since_ms.get(execution.symbol, 0))
        return False

    def sweep_from(self, symbol: str, since_ms: int) -> None:
        """From when on executions are ours to account for, where an earlier process knew and told of none."""
        self._executions_since_ms.setdefault(symbol, since_ms + EXECUTIONS_OVERLAP_MS)

    def heard_after_sweep(self, fill: Filled) -> bool:
        """Whether a read told this execution and the private stream tells it now, for the first time."""
        if fill.execution_id not in self._swept:
            return False
        del self._swept[fill.execution_id]
        return True

    def decided(self, event: Event, intents: Sequence[Intent]) -> None:
        """Measures tick_to_decision: from receiving an event to having decided on an order because of it."""
        for intent in intents:
            if type(intent) in _ORDERED:
                self._observe(_TICK_TO_DECISION, event.at_ns)
                return

    def drain_observations(self) -> list[tuple[str, tuple[str, ...], float]]:
        """Histogram samples since the last call."""
        drained, self._observations = self._observations, []
        return drained

    def _observe(self, operation: tuple[str], since_ns: int) -> None:
        took_s = (self._now_ns() - since_ns) / 1e9
        self._observations.append((_LATENCY, operation, took_s))

    async def settle(self, deadline_s: float) -> bool:
        """Waits until all that is under way has its outcome, or until the deadline. Whether anything was."""
        tasks, begun = set(self._tasks), dict(self._begun)
        under_way: set[asyncio.Future[Any]] = {*tasks, *begun.values()}
        if under_way:
            await asyncio.wait(under_way, timeout=deadline_s)
            told = tasks.isdisjoint(self._tasks) and begun.keys().isdisjoint(self._begun)
            if not told:  # answered or not
                self._uncertain_ns = self._now_ns()  # one of them may be a create
        return bool(under_way)

    def late_s(self, receive_window_s: float) -> float:
        """How long from now on a create of unknown outcome may still arrive at the venue; below 0: none can."""
        if self._uncertain_ns is None:
            return -1.0
        return receive_window_s - (self._now_ns() - self._uncertain_ns) / 1e9

    async def close(self) -> None:
        """Abandons what is still under way, and starts nothing any more."""
        self._is_closed = True
        under_way: list[asyncio.Future[Any]] = [*self._tasks, *self._begun.values()]
        for one in under_way:
            one.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _start(self, work: Work, name: str) -> None:
        if self._is_closed:
            work.close()
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        self._steps_due = True
        loop.call_soon(self._stepped)

    def _stepped(self) -> None:
        """The tasks that were started have begun."""
        self._steps_due = False

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error, f"sending {task.get_name()}")

    def _work(self, intent: Intent) -> Work | None:
        match intent:
            case PlaceOrder():
                return self._place(intent)
            case AmendOrder():
                return self._amend(intent)
            case CancelOrder():
                return self._cancel(intent)
            case CancelAll():
                # started already here: inside the coroutine they would follow this turn's creates
                return self._cancel_all(intent, [self.own_orders.cancel_all(symbol) for symbol in intent.symbols])
            case FlattenReduceOnly():
                return self._flatten(intent)
            case ProbeOrder():
                return self._probe(intent)
            case ReadAccount():
                return self._read_account(intent.symbol)
            case ResyncBook():
                self._port.resync(intent.symbol)
        return None

    # ---- mutations ------------------------------------------------------------------------------------------------

    async def _place(self, intent: PlaceOrder) -> None:
        if not self._grant.valid(intent.epoch, self._now_ns()):
            self._tell(OrderUnreachable(self._now_ns(), intent.client_order_id, NO_GRANT))
            return
        self._observe(_DECISION_TO_SEND, intent.at_ns)
        self.own_orders.sent(intent.symbol, intent.client_order_id)
        outcome = await self._port.place(intent, self.instruments[intent.symbol])
        if self._placed(intent, outcome) and self.filters is not None:
            await self.filters.look(intent.symbol)

    def _placed(self, intent: PlaceOrder, outcome: Outcome) -> bool:
        """Tells of it. Whether the filters have to be read again."""
        if isinstance(outcome, (Refused, Unreachable)):
            self.own_orders.ended(intent.client_order_id)
        elif isinstance(outcome, Unknown):
            self._uncertain_ns = self._now_ns()
        self._heed(outcome)
        self._tell(_order_answer(self._now_ns(), intent.client_order_id, outcome))
        return self.filters is not None and self.filters.doubt(intent.symbol, outcome)

    async def _amend(self, intent: AmendOrder) -> None:
        if not self._grant.valid(intent.epoch, self._now_ns()):
            self._tell(_amend_answer(self._now_ns(), intent, Unreachable(NO_GRANT)))
            return
        self._amended(intent, await self._port.amend(intent, self.instruments[intent.symbol]))

    def _amended(self, intent: AmendOrder, outcome: Outcome) -> None:
        self._heed(outcome)
        self._tell(_amend_answer(self._now_ns(), intent, outcome))

    def _heed(self, outcome: Outcome) -> None:
        """A refusal that is about more than its order stops more than its order."""
        if type(outcome) is _REFUSED and outcome.scope != "order":
            reason = "account_stopped" if outcome.scope == "account" else "symbol_stopped"
            self._tell(StopRequested(self._now_ns(), reason, "fault", "people", "venue"))

    async def _cancel(self, intent: CancelOrder) -> None:
        self._cancelled(intent, await self._port.cancel(intent))

    def _cancelled(self, intent: CancelOrder, outcome: Outcome) -> None:
        word, detail = _word(outcome)
        self._tell(CancelAnswered(self._now_ns(), intent.client_order_id, word, detail))

    async def _cancel_all(self, intent: CancelAll, calls: Sequence[asyncio.Task[Outcome]]) -> None:
        """All symbols at once; the answer is the worst of theirs."""
        outcomes = await asyncio.gather(*calls)
        words = [_word(outcome) for outcome in outcomes] or [("accepted", "")]
        severity = ("accepted", "gone", "refused", "unreachable", "unknown")
        word, detail = max(words, key=lambda pair: severity.index(pair[0]))
        self._tell(CancelAllAnswered(self._now_ns(), intent.key, word, detail))

    async def _flatten(self, intent: FlattenReduceOnly) -> None:
        instrument = self.instruments[intent.symbol]
        order = ImmediateOrder(
            intent.client_order_id,
            intent.symbol,
            intent.side,
            instrument.qty(intent.qty_lots),
            instrument.price(intent.price_limit_ticks),
        )
        outcome = await self._port.place_immediate(order)
        self._tell(_order_answer(self._now_ns(), intent.client_order_id, outcome))

    # ---- reads ----------------------------------------------------------------------------------------------------

    async def _probe(self, intent: ProbeOrder) -> None:
        if intent.symbol not in self.instruments:
            self._tell(ReadFailed(self._now_ns(), "order", intent.symbol, "filters not known yet"))
            return
        try:
            order = await self._port.order(intent.symbol, intent.client_order_id, self.instruments[intent.symbol])
        except (VenueError, NotOnGrid) as error:
            self._tell(ReadFailed(self._now_ns(), "order", intent.symbol, str(error)))
            return
        if order is None:
            self._tell(OrderNotFound(self._now_ns(), intent.client_order_id, intent.at_ns))
        else:
            self._tell(OrderUpdated(self._now_ns(), order, intent.at_ns))

    async def _read_account(self, symbol: str) -> None:
        """Executions, open orders, position, statement: whoever compares has heard of every fill before."""
        if symbol not in self.instruments:
            if self.filters is not None:
                await self.filters.look(symbol)
            if symbol not in self.instruments:
                await self._read_open_orders(symbol)  # which orders stand, and whose, needs no filters
                return
        await self._sweep_executions(symbol)
        await self._read_open_orders(symbol)
        await self._read_position(symbol)
        await self._statement.read(self.instruments[symbol])
        if self.filters is not None:
            await self.filters.look(symbol)

    async def _sweep_executions(self, symbol: str) -> None:
        """The first time nothing is swept: what was executed before is part of the position that is taken over."""
        since_ms, asked_at_ns = self._executions_since_ms.get(symbol), self._now_ns()
        try:
            if since_ms is None:
                self._executions_since_ms[symbol] = await self._port.server_time_ms() + EXECUTIONS_OVERLAP_MS
                return
            since_ms -= EXECUTIONS_OVERLAP_MS
            found = await self._port.executions(symbol, since_ms, self.instruments[symbol])
        except (VenueError, NotOnGrid) as error:
            self._tell(ReadFailed(self._now_ns(), "executions", symbol, str(error)))
            return
        unknown = [one for one in found if identity_of(one) not in self._executions]
        new = [one for one in unknown if isinstance(one, Filled)]
        self._tell(ExecutionsSwept(self._now_ns(), symbol, asked_at_ns, tuple(_identity(fill) for fill in new)))
        # Told as of now, after the sweep that found them: they were read before it, and time never runs back.
        for fill in new:
            self._tell(structs.replace(fill, at_ns=self._now_ns()))
            self._swept[fill.execution_id] = None
        for paid in unknown:
            if isinstance(paid, FundingPaid):
                self._tell(structs.replace(paid, at_ns=self._now_ns()))
        while len(self._swept) > EXECUTIONS_KEPT:
            del self._swept[next(iter(self._swept))]

    async def _read_open_orders(self, symbol: str) -> None:
        asked_at_ns, told = self._now_ns(), self.own_orders.strangers.told
        try:
            orders = await self._port.open_orders(symbol, self.instruments.get(symbol) or unlisted(symbol))
        except (VenueError, NotOnGrid) as error:
            self._tell(ReadFailed(self._now_ns(), "open_orders", symbol, str(error)))
            return
        self.own_orders.strangers.read(symbol, orders, told)
        self._tell(OpenOrdersRead(self._now_ns(), symbol, asked_at_ns, tuple(orders)))

    async def _read_position(self, symbol: str) -> None:
        asked_at_ns = self._now_ns()
        try:
            position = await self._port.position(symbol)
            qty_lots, dust_base = self.instruments[symbol].held_lots(position.qty)
        except (VenueError, NotOnGrid) as error:
            self._tell(ReadFailed(self._now_ns(), "position", symbol, str(error)))
            return
        self._tell(PositionRead(self._now_ns(), symbol, asked_at_ns, qty_lots, position.entry_price, dust_base))


def _cancels_first(intents: Sequence[Intent]) -> Sequence[Intent]:
    for intent in intents:
        if type(intent) in _FIRST:
            return sorted(intents, key=lambda one: type(one) not in _FIRST)
    return intents


def _key(intent: Mutation) -> str:
    """`key_of` without its three questions."""
    return intent.key if type(intent) in _KEYED else intent.client_order_id  # type: ignore[union-attr]


def identity_of(execution: Filled | FundingPaid) -> str:
    """What a fill or a funding settlement is known by; the two never share one."""
    return execution.execution_id if isinstance(execution, Filled) else f"funding {execution.funding_id}"


def _identity(fill: Filled) -> tuple[str, int]:
    return fill.execution_id, fill.venue_at_ns


def _order_answer(now_ns: int, client_order_id: str, outcome: Outcome) -> Event:
    match outcome:
        case Accepted():
            return OrderAccepted(now_ns, client_order_id, outcome.venue_order_id)
        case Refused():
            return OrderRefused(now_ns, client_order_id, outcome.code, outcome.reason, outcome.post_only)
        case Unreachable():
            return OrderUnreachable(now_ns, client_order_id, outcome.detail)
        case _:
            return OrderUncertain(now_ns, client_order_id, outcome.code, outcome.detail)


def _amend_answer(now_ns: int, intent: AmendOrder, outcome: Outcome) -> Event:
    word, detail = _word(outcome)
    wait_ms = outcome.wait_ms if type(outcome) is _UNREACHABLE else 0
    return AmendAnswered(now_ns, intent.client_order_id, intent.price_ticks, intent.qty_lots, word, detail, wait_ms)


def _word(outcome: Outcome) -> tuple[str, str]:
    match outcome:
        case Accepted():
            return ("gone" if outcome.gone else "accepted"), ""
        case Refused():
            return "refused", f"{outcome.code} {outcome.reason}"
        case Unreachable():
            return "unreachable", outcome.detail
        case _:
            return "unknown", f"{outcome.code} {outcome.detail}"
