"""What the kernel lane asks of the venue: each request knows what it does there, and what is told of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

from bot.domain import events as ev
from bot.domain import intent as it
from bot.simulator import kernel_words as words
from bot.simulator.bybit import PRIVATE
from bot.simulator.bybit_access import Bucket, V5Error
from bot.simulator.kernel_agenda import Due
from bot.simulator.orders import NewOrder
from bot.venues.bybit.order_entry import CANCELS
from bot.venues.bybit.rate_limits import Bucket as Turns

if TYPE_CHECKING:
    from bot.simulator.kernel import Kernel

_SEVERITY: Final = ("gone", "accepted", "refused", "unreachable", "unknown")
_AMEND_ANSWERED: Final = ev.AmendAnswered


@final
class Endpoint:
    """One path, and how often it may be asked: as the adapter counts it, and as the venue does."""

    def __init__(self, path: str, turns: Turns, bucket: Bucket) -> None:
        self.path = path
        self.turns = turns
        self.bucket = bucket
        self.is_cancel = path in CANCELS
        self.is_read = ("POST", path) not in PRIVATE
        """it waits for its turn, where anything else comes back at once"""
        self.per_s = PRIVATE["GET" if self.is_read else "POST", path].per_s


class Request(Due):
    """On its way to the venue, and then its answer on the way back. `error`: None where it was done."""

    endpoint: Endpoint
    has_arrived: bool = False
    error: V5Error | None = None
    left: int = -1
    """what the venue says that the endpoint still takes, until `resets_at_ms`; -1: it was not asked"""
    resets_at_ms: int = 0

    def act(self, kernel: Kernel) -> None:
        """At the venue. Raises V5Error or Refused."""
        raise NotImplementedError

    def answered(self, kernel: Kernel) -> None:
        """Back here."""
        raise NotImplementedError

    def happen(self, kernel: Kernel) -> None:
        if self.has_arrived:
            if self.left >= 0:
                kernel.hear_limit(self)
            self.answered(kernel)
        else:
            self.has_arrived = True
            kernel.arrive(self)


@final
class Create(Request):
    def __init__(self, endpoint: Endpoint, new: NewOrder) -> None:
        self.endpoint = endpoint
        self._new = new
        self._order_id = ""

    def act(self, kernel: Kernel) -> None:
        self._order_id = kernel.venue.create(kernel.account, self._new, kernel.now_ns).order_id

    def answered(self, kernel: Kernel) -> None:
        kernel.tell(words.created(kernel.now_ns, self._new.link_id, self._order_id, self.error))


@final
class Amend(Request):
    """Price and quantity stay the objects that came: the answer tells them again."""

    def __init__(self, endpoint: Endpoint, link_id: str, price_ticks: Any, qty_lots: Any) -> None:
        self.endpoint = endpoint
        self._link_id = link_id
        self._price_ticks = price_ticks
        self._qty_lots = qty_lots

    def again(self, link_id: str, price_ticks: Any, qty_lots: Any) -> None:
        """Another amend, once this one has been answered."""
        self._link_id = link_id
        self._price_ticks = price_ticks
        self._qty_lots = qty_lots
        self.has_arrived = False
        self.error = None
        self.left = -1

    def act(self, kernel: Kernel) -> None:
        order = kernel.open_order(self._link_id, "")
        kernel.venue.amend(kernel.account, order, self._price_ticks, self._qty_lots, kernel.now_ns)

    def answered(self, kernel: Kernel) -> None:
        error = self.error
        if error is None:
            told = _AMEND_ANSWERED(kernel.now_ns, self._link_id, self._price_ticks, self._qty_lots, "accepted")
            kernel.spare_amend = self
            kernel.tell(told)
            return
        word, detail = words.of_existing(error)
        wait_ms = error.wait_ms if isinstance(error, words.NotLeft) else 0
        kernel.tell(
            _AMEND_ANSWERED(
                kernel.now_ns, self._link_id, self._price_ticks, self._qty_lots, word, detail, wait_ms
            )
        )  # fmt: skip


@final
class Cancel(Request):
    def __init__(self, endpoint: Endpoint, link_id: str, venue_order_id: str) -> None:
        self.endpoint = endpoint
        self._link_id = link_id
        self._venue_order_id = venue_order_id

    def act(self, kernel: Kernel) -> None:
        order = kernel.open_order(self._link_id, self._venue_order_id)
        kernel.venue.cancel(kernel.account, order, kernel.now_ns)

    def answered(self, kernel: Kernel) -> None:
        word, detail = words.of_existing(self.error)
        kernel.tell(ev.CancelAnswered(kernel.now_ns, self._link_id, word, detail))


@final
class CancelAll(Request):
    def __init__(self, endpoint: Endpoint, key: str) -> None:
        self.endpoint = endpoint
        self._key = key

    def act(self, kernel: Kernel) -> None:
        for order in list(kernel.account.open_orders.values()):
            kernel.venue.cancel(kernel.account, order, kernel.now_ns)

    def answered(self, kernel: Kernel) -> None:
        word, detail = words.of_existing(self.error)
        kernel.tell(ev.CancelAllAnswered(kernel.now_ns, self._key, word, detail))


@final
class Tally:
    """The answers to the single cancels that one cancel-all is made of: once all have come the worst one counts."""

    def __init__(self, key: str, wanted: int) -> None:
        self._key = key
        self._wanted = wanted
        self._worst = ("accepted", "")

    def told(self, now_ns: int, error: V5Error | None) -> ev.CancelAllAnswered | None:
        """One more answer; returns what the cancel-all came to with the last of them."""
        found = words.of_existing(error)
        if _SEVERITY.index(found[0]) > _SEVERITY.index(self._worst[0]):
            self._worst = found
        self._wanted -= 1
        return None if self._wanted else ev.CancelAllAnswered(now_ns, self._key, *self._worst)


@final
class CancelOneOfAll(Request):
    def __init__(self, endpoint: Endpoint, venue_order_id: str, tally: Tally) -> None:
        self.endpoint = endpoint
        self._venue_order_id = venue_order_id
        self._tally = tally

    def act(self, kernel: Kernel) -> None:
        kernel.venue.cancel(kernel.account, kernel.open_order("", self._venue_order_id), kernel.now_ns)

    def answered(self, kernel: Kernel) -> None:
        told = self._tally.told(kernel.now_ns, self.error)
        if told is not None:
            kernel.tell(told)


@final
class Read(Request):
    """`answered` is told what `act` returned, or the V5Error it came to."""

    def __init__(self, endpoint: Endpoint, act: Callable[[], object], answered: Callable[[Any], None]) -> None:
        self.endpoint = endpoint
        self._act = act
        self._answered = answered
        self._found: object = None

    def act(self, _: Kernel) -> None:
        self._found = self._act()

    def answered(self, _: Kernel) -> None:
        self._answered(self._found if self.error is None else self.error)


def create_of(endpoint: Endpoint, intent: it.PlaceOrder) -> Create:
    return Create(
        endpoint,
        NewOrder(
            intent.client_order_id, intent.side, intent.price_ticks, intent.qty_lots, words.POST_ONLY,
            intent.reduce_only,
        ),
    )  # fmt: skip


def flatten_of(endpoint: Endpoint, intent: it.FlattenReduceOnly) -> Create:
    return Create(
        endpoint,
        NewOrder(intent.client_order_id, intent.side, intent.price_limit_ticks, intent.qty_lots, words.IOC, True),
    )
