"""The proof of a step down: every position lies within the plateau below, by a read of the venue, or the stage ends.

A symbol that the plateau does not have may hold nothing. The bot only reduces what is above a limit, with quotes, which
may take for ever; what has to be closed altogether is closed here, reduce-only, beside the bot.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final

from gates.decision import Action, Decision
from gates.stages import Stage
from tasks.guard.closing import end_stage
from tasks.guard.state import Active, GuardState, account_now, now_ms
from tasks.record import iso
from tasks.record_tables import StagePart, utc_now
from tasks.rollback import in_words
from tasks.venue_desk import VenueDesk

log = logging.getLogger("slipway.guard.plateau")
LOOK_EVERY_S = 0.5
STEPPED_DOWN: Final = "stepped_down"
"""How a part ended that was left for the one below it."""
UNCLOSED: Final = "is not closed"
HELD: Final = "held_quote"
"""What only the proof of a plateau says of a part."""


@dataclass(frozen=True)
class Held:
    """One read of every symbol of the stage: signed quantity in base, and its size at the mid, quote."""

    qty: Mapping[str, Decimal]
    quote: Mapping[str, Decimal]

    @property
    def words(self) -> str:
        return ", ".join(f"{symbol} {quote:.2f}" for symbol, quote in self.quote.items())

    def beyond(self, plateau: Stage) -> list[str]:
        """What lies outside the plateau's limits, in words; none where it is within them."""
        found = [f"{one} {quote:.2f}" for one, quote in self.quote.items() if quote > _limit_quote(plateau, one)]
        total = sum(self.quote.values(), Decimal(0))
        return found if total <= plateau.total_max_quote else [*found, f"{total:.2f} in all"]

    def on(self, plateau: Stage) -> Held:
        """What of it is in symbols that the plateau has."""
        own = set(plateau.symbols)
        return Held(*({one: of[one] for one in of if one in own} for of in (self.qty, self.quote)))

    def to_close(self, plateau: Stage) -> dict[str, Decimal]:
        """Symbol → signed quantity of what the plateau does not have."""
        return {symbol: qty for symbol, qty in self.qty.items() if qty and symbol not in plateau.symbols}


def begin_proof(guard: GuardState, active: Active) -> None:
    """Beside everything else; it ends with the part, or with the stage."""
    guard.spawn(_prove(guard, active), "prove the plateau")


async def resume_proof(guard: GuardState, active: Active) -> None:
    """After a restart of the guard: a proof that the one before it began and did not live to write begins anew."""
    if _owes_proof(await guard.store.call(guard.store.record.parts, active.id)):
        begin_proof(guard, active)


def _owes_proof(parts: Sequence[StagePart]) -> bool:
    if len(parts) < 2 or parts[-1].ended_at is not None:
        return False
    return parts[-2].outcome == STEPPED_DOWN and HELD not in parts[-1].proof


async def _prove(guard: GuardState, active: Active) -> None:
    desk = VenueDesk(lambda: account_now(guard, active), active.whole.symbols)
    try:
        await _prove_at(desk, guard, active)
    finally:
        desk.close()


async def _prove_at(desk: VenueDesk, guard: GuardState, active: Active) -> None:
    """Counts no read in which an order may still fill that was sent under the larger grant, nor any before an adoption:
    until then the bot may not have taken the smaller one."""
    visit, plateau = active.visit, active.stage
    earliest: float | None = None
    while active.visit == visit and active.closing is None:
        if not active.launching:
            at = time.monotonic()
            earliest = earliest or at + active.plan.late_s
            held, said = await _look(desk, active, plateau)
            if held is not None and not held.beyond(plateau) and at >= earliest:
                _write(guard, active, plateau, held)
                return
            if at >= earliest + plateau.proof_deadline_s:
                end_stage(guard, active, _not_within(plateau, held, said))
                return
        await asyncio.sleep(LOOK_EVERY_S)


async def _look(desk: VenueDesk, active: Active, plateau: Stage) -> tuple[Held | None, str]:
    """One read, and a slice of each position that has to be closed. None, and why, where it could not be read."""
    try:
        held = await _read(desk, active.whole.symbols)
    except Exception as error:  # noqa: BLE001 - also what nobody expected: a proof that ended by it would prove nothing
        return None, in_words(error)
    said = held.words
    for symbol, qty in held.to_close(plateau).items():
        try:
            log.warning("%s %s is not on the plateau: %s", symbol, qty, await desk.reduce(symbol, qty))
        except Exception as error:  # noqa: BLE001 - as above
            said += f"; {symbol} {UNCLOSED}: {in_words(error)}"
    return held, said


async def _read(desk: VenueDesk, symbols: Sequence[str]) -> Held:
    """Raises DeskError."""
    positions = await desk.read_positions()
    quote: dict[str, Decimal] = {}
    for symbol in symbols:
        qty = abs(positions[symbol])
        if qty:
            top = await desk.read(lambda client, symbol=symbol: client.top_of_book(symbol))  # type: ignore[misc]
            quote[symbol] = qty * (top.bid + top.ask) / 2
        else:
            quote[symbol] = Decimal(0)
    return Held(positions, quote)


def _write(guard: GuardState, active: Active, plateau: Stage, held: Held) -> None:
    limits = {symbol: f"{_limit_quote(plateau, symbol):f}" for symbol in held.quote}
    proof: dict[str, Any] = {HELD: held.words, "limit": f"{plateau.inventory_max_quote:f}", "limits": limits}
    proof |= {"total_limit": f"{plateau.total_max_quote:f}", "read_at": iso(utc_now())}
    guard.store.tell("plateau proven", partial(guard.store.record.prove_part, active.id, proof))


def _not_within(plateau: Stage, held: Held | None, said: str) -> Decision:
    """The candidate's, which holds too much; where the venue could not be read nothing is known of the candidate, and
    what the venue does not let us close ourselves is none of its doing."""
    sizes = f"{plateau.inventory_max_quote:f} each of {', '.join(plateau.symbols)}, {plateau.total_max_quote:f} in all"
    wanted = f"at most {sizes} within {plateau.proof_deadline_s:g} s"
    if held is None:
        return Decision(Action.PARK, "environment", "step_down", None, wanted, (), now_ms(), f"not read: {said}")
    words = f"held: {said}"
    if UNCLOSED in said and not held.on(plateau).beyond(plateau):
        return Decision(Action.PARK, "environment", "step_down", None, wanted, (), now_ms(), words)
    return Decision(Action.ROLL_BACK, "candidate", "step_down", None, wanted, (), now_ms(), words)


def _limit_quote(plateau: Stage, symbol: str) -> Decimal:
    return plateau.inventory_max_quote if symbol in plateau.symbols else Decimal(0)
