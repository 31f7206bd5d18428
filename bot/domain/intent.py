"""What the engine wants done: one closed union. An intent is journaled durably before anything is sent.

`Approved` is permission as a type: only `bot.engine.risk` makes one, and the sender takes nothing else for a new or
larger order. Intents that only lower risk (cancels, reads) need no approval.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from bot.domain.order import Side


class _Intent(msgspec.Struct, frozen=True, tag=True, omit_defaults=True, gc=False):
    """`gc=False` as of events: no intent is part of a cycle."""

    at_ns: int


class PlaceOrder(_Intent, frozen=True, tag=True):
    """A post-only limit order. `client_order_id`: at most 36 of [A-Za-z0-9_-], `<prefix>-<epoch>-<sequence>`."""

    client_order_id: str
    symbol: str
    side: Side
    price_ticks: int
    qty_lots: int
    epoch: int
    reduce_only: bool = False


class AmendOrder(_Intent, frozen=True, tag=True):
    """`key`: idempotency key; the same key is sent once. A create's key is its client order id."""

    client_order_id: str
    symbol: str
    price_ticks: int
    qty_lots: int
    epoch: int
    key: str = ""


class CancelOrder(_Intent, frozen=True, tag=True):
    """By client order id, or by the venue's where an order has none of ours. `key` as in AmendOrder."""

    client_order_id: str
    symbol: str
    venue_order_id: str = ""
    key: str = ""


class CancelAll(_Intent, frozen=True, tag=True):
    """One cancel-all of all own orders under one idempotency key; a repeat with the same key sends nothing."""

    key: str
    symbols: tuple[str, ...]
    reason: str


class ProbeOrder(_Intent, frozen=True, tag=True):
    """Ask the venue what became of an order: open orders, then history."""

    client_order_id: str
    symbol: str


class ReadAccount(_Intent, frozen=True, tag=True):
    """Read open orders and position of a symbol, for recovery and reconciliation."""

    symbol: str


class ResyncBook(_Intent, frozen=True, tag=True):
    """Ask for a fresh snapshot of a book that cannot be trusted."""

    symbol: str


class FlattenReduceOnly(_Intent, frozen=True, tag=True):
    """Bounded reduce-only flatten after a lost grant: immediate-or-cancel, own order class and id prefix, in a band."""

    client_order_id: str
    symbol: str
    side: Side
    qty_lots: int
    price_limit_ticks: int


class PublishKillSwitch(_Intent, frozen=True, tag=True):
    """HALTED: ask the kill-switch process to cancel (and flatten) independently of this one."""

    reason: str


class Exit(_Intent, frozen=True, tag=True):
    """Shut the process down with this exit code; own orders have been cancelled."""

    code: int
    reason: str


class Note(_Intent, frozen=True, tag=True):
    """Something for log and metrics, decided by the engine so that replay repeats it. Nothing is sent to a venue."""

    level: str
    event: str
    fields: dict[str, str | int | float | bool]


Intent = (
    PlaceOrder
    | AmendOrder
    | CancelOrder
    | CancelAll
    | ProbeOrder
    | ReadAccount
    | ResyncBook
    | FlattenReduceOnly
    | PublishKillSwitch
    | Exit
    | Note
)


Mutation = PlaceOrder | AmendOrder | CancelOrder | CancelAll | FlattenReduceOnly


def key_of(intent: Mutation) -> str:
    """The idempotency key of a mutation: the same key is carried out once, and again gives the first result."""
    if isinstance(intent, (AmendOrder, CancelOrder, CancelAll)):
        return intent.key
    return intent.client_order_id


class RiskNumber(msgspec.Struct, frozen=True):
    """The number that decided: which limit, what it would have been, what is allowed."""

    limit: str
    value: Decimal
    allowed: Decimal
