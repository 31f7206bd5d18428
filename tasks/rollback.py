"""Closes a stage, with proof: revoke, stop, cancel, flatten, bundle, tell. The same steps end a promotion.

Every step is idempotent, retried with back-off and verified before it counts. A step that fails never delays the next
safety step: they run beside each other and wait for one another only for a bounded time. What is not proven within
its deadline is ROLLBACK_FAILED: it is told, it keeps trying for ever, and it never reports success.

The waits of step 2 (grant TTL + the venue's receive window + two quote intervals) delay only the proof. Flattening
starts once the bot is gone and the first cancel-all is answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tasks.flattenings import FLATTENINGS, Begun
from tasks.record import iso
from tasks.record_tables import RollbackStep, utc_now

if TYPE_CHECKING:
    from bot.runtime.kill_switch_report import FlattenSent

log = logging.getLogger("slipway.rollback")
Proof = TypeVar("Proof")

STEPS = ("revoke_grant", "stop_bot", "cancel_all", "flatten", "bundle", "tell")
"""Step number = position."""


PROVEN_WORDS: Mapping[str, str] = {
    "stop_bot": "bot gone",
    "cancel_all": "no open order",
    "flatten": "flat",
    "revoke_grant": "grant revoked",
    "bundle": "bundle built",
}
EVERY_STEP = "every step is proven"
NOT_FLATTENED = "not asked: the target is the position held"
SAID_BY = "said_by"
"""In the proof of a step that nothing but a person's word stands for: whose it is."""
NO_ACCOUNT = "in shadow no order leaves the process, and this one knew no key and no account"


class DeskError(Exception):
    """A call to the venue that failed. It says nothing about the account: neither flat nor empty."""


@dataclass(frozen=True)
class OpenOrders:
    """A successful read of open orders, counted; `own` are ours by their prefix."""

    own: int
    foreign: int


class AccountDesk(Protocol):
    """What closing needs of the venue account, without the bot. Every call ends in time or raises DeskError."""

    async def cancel_all(self) -> str:
        """Cancels all own orders; returns what the venue answered, in words."""

    async def read_open(self) -> OpenOrders: ...

    async def flatten(self, sent: Callable[[Sequence[FlattenSent]], None]) -> str:
        """Reduce-only slices inside a band until a read shows flat, or raises. `sent`: told of them either way."""

    async def read_positions(self) -> Mapping[str, Decimal]:
        """Every symbol of the stage, signed quantity in base."""


class Permission(Protocol):
    """Step 0 and 1 as the guard can do them."""

    async def revoke(self) -> tuple[bool, dict[str, Any]]:
        """(revoked for sure, proof)."""

    async def stop(self) -> tuple[bool, dict[str, Any]]:
        """(gone for sure, proof)."""


class StepLog(Protocol):
    """Where steps are recorded. Failing to record never stops a step: the caller logs and goes on."""

    async def write(self, row: RollbackStep, **times: datetime) -> None: ...


@dataclass(frozen=True)
class Waits:
    """`proof_wait_s`: grant TTL + receive window + two quote intervals, counted from the revoke.

    `patience_s`: how long a safety step waits for the one before it, `revoke_patience_s` for the revoke. `retry_s`: the
    back-off, its last value for ever.
    """

    proof_wait_s: float
    proof_deadline_s: float
    patience_s: float = 6.0
    revoke_patience_s: float = 1.0
    between_reads_s: float = 0.25
    retry_s: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass
class Proven:
    """What is proven so far. `flat` also where the stage does not flatten and the target is the position held."""

    revoked_at: datetime | None = None
    bot_gone_at: datetime | None = None
    none_open_at: datetime | None = None
    flat_at: datetime | None = None

    @property
    def all(self) -> bool:
        return None not in (self.revoked_at, self.bot_gone_at, self.none_open_at, self.flat_at)


@dataclass
class Closing:
    """One closing of one stage run. `run()` returns when steps 0 to 3 are proven, however long that takes.

    `desk` None: the run had no account at any venue, so that nothing of it is to be cancelled or flattened.
    """

    stage_run_id: int
    permission: Permission
    desk: AccountDesk | None
    log: StepLog
    waits: Waits
    flatten: bool
    on_failed: Callable[[str], Awaitable[None]]
    proven: Proven = field(default_factory=Proven)
    _cancelled_once: asyncio.Event = field(default_factory=asyncio.Event)
    _gone: asyncio.Event = field(default_factory=asyncio.Event)
    _revoked: asyncio.Event = field(default_factory=asyncio.Event)
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)
    _rows: dict[int, RollbackStep] = field(default_factory=dict)
    _flattening: Begun | None = None
    """The newest try. The record keeps what it was told of those before."""

    async def run(self) -> Proven:
        """Steps 0 to 3. Cancelling it loses nothing: the next run starts from the tables."""
        of_the_account = [self._skip(2), self._skip(3)] if self.desk is None else self._at(self.desk)
        steps = [asyncio.create_task(step) for step in (self._revoke(), self._stop(), *of_the_account)]
        watch = asyncio.create_task(self._deadline())
        try:
            await asyncio.gather(*steps)
        finally:
            for task in (*steps, watch):
                task.cancel()
        return self.proven

    def _at(self, desk: AccountDesk) -> list[Coroutine[Any, Any, None]]:
        return [self._cancel(desk), self._flatten(desk)]

    async def _skip(self, number: int) -> None:
        row = RollbackStep(stage_run_id=self.stage_run_id, number=number, name=STEPS[number], state="skipped")
        row.proof = {"why": NO_ACCOUNT}
        self._rows[number] = row
        await self._note(row)

    async def _deadline(self) -> None:
        await asyncio.sleep(self.waits.proof_deadline_s + self.waits.proof_wait_s)
        tries = 0
        while True:
            missing = [name for name, row in zip(STEPS, self._in_order(), strict=False) if not _settled(row)]
            words = f"not proven {self.waits.proof_deadline_s:g} s after the waits: {', '.join(missing)}; still trying"
            try:
                await self.on_failed(words)
                return
            except Exception as error:  # the page is what brings people: it is tried until it is out
                log.error("ROLLBACK_FAILED could not be told: %s; trying on", in_words(error), exc_info=True)
            await asyncio.sleep(self._back_off_s(tries))
            tries += 1

    def _in_order(self) -> list[RollbackStep | None]:
        return [self._rows.get(number) for number in range(4)]

    # ---- the steps ------------------------------------------------------------------------------------------------

    async def _revoke(self) -> None:
        await self._begin(0)

        async def attempt() -> dict[str, Any]:
            sure, proof = await self.permission.revoke()
            if not sure:
                raise DeskError(str(proof.get("detail", "not revoked")))
            return proof

        proof = await self._insist(0, attempt)
        self.proven.revoked_at = self.proven.revoked_at or utc_now()
        self._revoked.set()
        await self._verified(0, proof, grant_revoked_at=self.proven.revoked_at)

    async def _stop(self) -> None:
        await _within(self._revoked.wait(), self.waits.revoke_patience_s)
        await self._begin(1)

        async def attempt() -> dict[str, Any]:
            gone, proof = await self.permission.stop()
            if not gone:
                raise DeskError(str(proof.get("detail", "still there")))
            return proof

        proof = await self._insist(1, attempt)
        self.proven.bot_gone_at = self.proven.bot_gone_at or utc_now()
        self._gone.set()
        await self._verified(1, proof, bot_gone_at=self.proven.bot_gone_at)

    async def _cancel(self, desk: AccountDesk) -> None:
        # Not after the stop but beside it: the grant is revoked, so nothing new can follow what is cancelled now.
        await _within(self._revoked.wait(), self.waits.revoke_patience_s)
        await self._begin(2)
        answers = [await self._insist(2, desk.cancel_all)]
        if self._gone.is_set():
            self._cancelled_once.set()
        else:
            # What the bot had sent before it died may have come after the first one.
            await _within(self._gone.wait(), self.waits.patience_s)
            answers.append(await self._insist(2, desk.cancel_all))
            self._cancelled_once.set()
        proof = await self._insist(2, partial(self._prove_none_open, desk))
        self.proven.none_open_at = utc_now()
        await self._verified(2, {"answers": answers, **proof}, none_open_at=self.proven.none_open_at)
        self._quiet.set()

    async def _prove_none_open(self, desk: AccountDesk) -> dict[str, Any]:
        """Two consecutive reads without an own order, the first after the wait, with the bot gone throughout."""
        await self._gone.wait()
        revoked_at = self.proven.revoked_at or utc_now()
        earliest = revoked_at + timedelta(seconds=self.waits.proof_wait_s)
        await asyncio.sleep(max(0.0, (earliest - utc_now()).total_seconds()))
        reads = []
        for turn in range(2):
            if turn:
                await asyncio.sleep(self.waits.between_reads_s)
            found = await desk.read_open()
            reads.append({"at": iso(utc_now()), "own_open": found.own, "foreign_open": found.foreign})
            if found.own:
                await desk.cancel_all()
                raise DeskError(f"{found.own} own orders still open")
        return {"reads": reads, "first_read_allowed_from": iso(earliest)}

    async def _flatten(self, desk: AccountDesk) -> None:
        await _within(self._gone.wait(), self.waits.patience_s)
        await _within(self._cancelled_once.wait(), self.waits.patience_s)
        await self._begin(3)
        first = await self._insist(3, partial(self._prove_flat, desk))
        flat_at = utc_now()
        await self._verified(3, self._with_flattening(first), flat_at=flat_at)
        await self._quiet.wait()
        # An order that stood until the proof of step 2 may have filled after the first flat read.
        again = await self._insist(3, partial(self._prove_flat, desk))
        if again["traded"]:
            flat_at = utc_now()
        self.proven.flat_at = flat_at
        await self._verified(3, self._with_flattening({**first, "confirmed": again}), flat_at=flat_at)

    async def _prove_flat(self, desk: AccountDesk) -> dict[str, Any]:
        began_at = utc_now()
        positions = await desk.read_positions()
        traded = False
        said = ""
        if self.flatten and any(positions.values()):
            traded = True
            said = await self._flatten_told(desk, Begun(began_at, utc_now(), positions))
            positions = await desk.read_positions()
            if any(positions.values()):
                raise DeskError(f"not flat yet: {_shown(positions)}")
        return {
            "positions": _shown(positions),
            "read_at": iso(utc_now()),
            "traded": traded,
            "flatten": said or ("was flat" if self.flatten else NOT_FLATTENED),
        }

    async def _flatten_told(self, desk: AccountDesk, begun: Begun) -> str:
        """What is held is told before anything is sent, and what was sent also where it did not do: none may be lost
        with this process, or the attempt is booked without it."""
        self._flattening = begun
        await self._tell_flattening()

        def sent(orders: Sequence[FlattenSent]) -> None:
            begun.orders = orders

        try:
            return await desk.flatten(sent)
        finally:
            await self._tell_flattening()

    async def _tell_flattening(self) -> None:
        row = self._rows[3]
        row.proof = self._with_flattening(row.proof)
        await self._note(row)

    def _with_flattening(self, proof: dict[str, Any]) -> dict[str, Any]:
        """Never raises: what cannot be told keeps nothing from being flattened. Only the newest, however many there
        were: a record that is away for hours is told of each try, and all of that waits for it in memory."""
        if self._flattening is None:
            return proof
        try:
            return {**proof, FLATTENINGS: [self._flattening.told()]}
        except Exception as error:
            log.error("what was flattened is not told: %s", in_words(error), exc_info=True)
            return proof

    # ---- record and retry -----------------------------------------------------------------------------------------

    async def _insist(self, number: int, attempt: Callable[[], Awaitable[Proof]]) -> Proof:
        """Tries until it works: for ever, with back-off. Each failure is recorded with its words.

        Whatever is raised is a failed try, also what nobody expected: a closing that ended by it would prove nothing
        and page nobody.
        """
        tries = 0
        while True:
            try:
                return await attempt()
            except DeskError as error:
                said = in_words(error)
            except Exception as error:
                said = in_words(error)
                log.error("step %s, try %d: %s", STEPS[number], tries + 1, said, exc_info=True)
            row = self._rows[number]
            row.attempts, row.state, row.error = row.attempts + 1, "failing", said
            if tries == 0:
                await self._note(row)
            if number == 0 and not self._gone.is_set():  # a bot that is gone holds no grant: that is proven at once
                await _within(self._gone.wait(), self._back_off_s(tries))
            else:
                await asyncio.sleep(self._back_off_s(tries))
            tries += 1

    def _back_off_s(self, tries: int) -> float:
        return self.waits.retry_s[min(tries, len(self.waits.retry_s) - 1)]

    async def _note(self, row: RollbackStep, **times: datetime) -> None:
        """Records a step; a record that does not take it stops no step."""
        try:
            await self.log.write(row, **times)
        except Exception as error:
            log.error("step %s (%s) was not recorded: %s", row.name, row.state, in_words(error), exc_info=True)

    async def _begin(self, number: int) -> None:
        row = RollbackStep(stage_run_id=self.stage_run_id, number=number, name=STEPS[number], state="started")
        self._rows[number] = row
        await self._note(row)

    async def _verified(self, number: int, proof: dict[str, Any], **times: datetime) -> None:
        row = self._rows[number]
        row.attempts, row.state, row.error = row.attempts + 1, "verified", ""
        row.verified_at, row.proof = utc_now(), proof
        await self._note(row, **times)


def all_proven(rows: Iterable[RollbackStep]) -> bool:
    """Whether every step that proves something is verified, and by more than a person's word: all but the telling."""
    return PROVEN_WORDS.keys() <= {row.name for row in rows if _done(row) and SAID_BY not in _told(row)}


def is_flat(name: str, state: str, proof: Any) -> bool:
    """Whether this step proves that nothing is held: a flattening that was asked for, verified, and says so. Of a row
    that somebody has edited `proof` may be any JSON."""
    said = proof.get("flatten") if isinstance(proof, Mapping) else None
    return (name, state) == ("flatten", "verified") and said not in (None, "", NOT_FLATTENED)


def proven_flat(rows: Iterable[RollbackStep]) -> bool:
    return any(is_flat(row.name, row.state, row.proof) for row in rows)


def end_headline(step: str, *, flat: bool) -> str:
    """How a stage ended, in capitals; `flat`: whether that was proven. A step that is no end keeps its name."""
    if step == "parked" and flat:
        return "PARKED FLAT"
    return step.upper().replace("_", " ")


def proven_in_words(rows: Iterable[RollbackStep]) -> str:
    """`bot gone, no open order, flat, grant revoked; not verified: bundle (failing: no memory)`, from a closing's rows.

    What is not verified is named, with its state and why; a step without a row was not begun.
    """
    by_name = {row.name: row for row in rows}
    proven = [_proven(name, by_name[name]) for name in PROVEN_WORDS if _done(by_name.get(name))]
    missing = [name for name in PROVEN_WORDS if not _done(by_name.get(name))]
    why: dict[str, list[str]] = {}
    for name in sorted(missing, key=STEPS.index):
        why.setdefault(_why_not(by_name.get(name)), []).append(name)
    words = [", ".join(proven)] if proven else []
    if missing:
        words.append("not verified: " + ", ".join(f"{', '.join(names)} ({said})" for said, names in why.items()))
    return "; ".join(words)


def _proven(name: str, row: RollbackStep) -> str:
    if who := _told(row).get(SAID_BY):
        return f"{PROVEN_WORDS[name]} by the word of {who}"
    if name != "flatten" or proven_flat([row]):
        return PROVEN_WORDS[name]
    kept = _told(row).get("flatten") == NOT_FLATTENED
    return "position as it was, not flattened" if kept else "flat without a proof"


def _why_not(row: RollbackStep | None) -> str:
    if row is None:
        return "not begun"
    said = row.error or str(_told(row).get("why", ""))
    return f"{row.state}: {said}" if said else row.state


def in_words(error: Exception) -> str:
    """A failed try in one line: an expected one in its own words, any other with its kind before them."""
    said = " ".join(str(error).split())[:300]
    return said if isinstance(error, DeskError) else f"{type(error).__name__}: {said}".rstrip(": ")


def _done(row: RollbackStep | None) -> bool:
    return row is not None and row.state == "verified"


def _told(row: RollbackStep) -> Mapping[str, Any]:
    """Its proof; of one that somebody has edited into something else nothing."""
    proof: Any = row.proof
    return proof if isinstance(proof, Mapping) else {}


def _settled(row: RollbackStep | None) -> bool:
    """Whether nothing is missing of it: it is proven, or there was nothing to do."""
    return _done(row) or (row is not None and row.state == "skipped")


def _shown(positions: Mapping[str, Decimal]) -> dict[str, str]:
    return {symbol: f"{qty:f}" for symbol, qty in sorted(positions.items())}


async def _within(waiting: Awaitable[Any], patience_s: float) -> bool:
    """Waits, but not for ever. False where the time ran out."""
    try:
        await asyncio.wait_for(waiting, patience_s)
    except TimeoutError:
        return False
    return True
