"""What a closing flattened, as the proof of that step tells it: what was held, as of when, and which orders were sent.

The booking of an attempt asks for the executions of all of it: a venue lists them late, and none of them listed looks
as flat as all of them. So what was held is told before the first order leaves, and what an earlier guard told is kept.
A proof of before it was told has nothing of it, and asks for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from bot.booked import Flattening
from bot.runtime.kill_switch_report import FlattenSent
from tasks.record import iso

if TYPE_CHECKING:
    from tasks.record_tables import RollbackStep

FLATTENINGS: Final = "flattenings"
"""In the proof of the step: one for each try that found something held, oldest first."""
KEPT_MAX: Final = 50
"""Of tries without end the newest: what was held then is everything that had been filled until then."""


@dataclass
class Begun:
    """One try. It is read from `began_at` to `read_at` what is `held`: signed, base. `orders` None: not known yet."""

    began_at: datetime
    read_at: datetime
    held: Mapping[str, Decimal]
    orders: Sequence[FlattenSent] | None = None

    def told(self) -> dict[str, Any]:
        held = {symbol: f"{qty:f}" for symbol, qty in sorted(self.held.items()) if qty}
        told: dict[str, Any] = {"began_at": iso(self.began_at), "read_at": iso(self.read_at), "held": held}
        if self.orders is not None:
            told["orders"] = [
                {"symbol": one.symbol, "id": one.client_order_id, "taken": one.taken} for one in self.orders
            ]
        return told


def with_earlier(proof: dict[str, Any], earlier: object) -> dict[str, Any]:
    """`proof` with what the proof that it replaces tells of flattenings, each once, by its newest word.

    Never raises: nothing that somebody put into a row may keep the next word out of the record.
    """
    known = {one["began_at"]: one for one in (*_told(earlier), *_told(proof))}
    return {**proof, FLATTENINGS: list(known.values())[-KEPT_MAX:]} if known else proof


def _told(proof: Any) -> list[dict[str, Any]]:
    told = proof.get(FLATTENINGS) if isinstance(proof, Mapping) else None
    return [one for one in told if is_told(one)] if isinstance(told, list) else []


def is_told(one: Any) -> bool:
    """Whether it is a try as a closing tells one: known by when it began."""
    return isinstance(one, dict) and isinstance(one.get("began_at"), str)


def flattenings_of(rows: Iterable[RollbackStep]) -> list[Flattening]:
    """What the steps of a closing tell of it, oldest first. Raises what reading one raises that nobody here wrote."""
    return [_read(one) for row in rows for one in row.proof.get(FLATTENINGS, ())]


def _read(told: Mapping[str, Any]) -> Flattening:
    began_ms, read_ms = (
        round(datetime.fromisoformat(told[name]).timestamp() * 1000) for name in ("began_at", "read_at")
    )
    held = {str(symbol): Decimal(qty) for symbol, qty in told["held"].items()}
    orders = (FlattenSent(one["symbol"], one["id"], one["taken"] is True) for one in told.get("orders", ()))
    return Flattening(began_ms, read_ms, held, tuple(orders))
