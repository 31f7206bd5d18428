"""How each drill is made: on the bot by its operator API, on its process by this host, at the venue as another client.

So all of them work wherever the bot does; none needs a venue that can be told to misbehave. A fault is made, the
criteria look at it, it is undone, and what it must have shown is proven. `undo` runs whatever came before it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from bot.domain.order import OWN_PREFIX, QUOTE_PREFIX, Side
from bot.journal import JournalError, JournalReader, label_text
from gates.sources.tables import DIVERGENCES
from tasks.guard.drilled import KILLS
from tasks.guard.launching import relaunch
from tasks.guard.state import Active, GuardState, account_now
from tasks.launch import BotEnded, LaunchError
from tasks.rollback import DeskError
from tasks.state_folder import write_private
from tasks.venue_desk import VenueDesk

if TYPE_CHECKING:
    from bot.venues.bybit.account_orders import AccountOrder
    from gates.sources.totals import Totals
    from tasks.supervise.identity import Identity

LOOK_EVERY_S = 0.25
CALL_AGAIN_S = 1.0
CANCELLED_WITHIN_S = 10.0
"""How long an orphan that was counted may stand: its cancel may still be on its way."""
AWAY = Decimal("0.97")
"""How far below the best bid the orphan is placed: never filled in seconds, and inside every venue's price limits."""


class DrillNotRun(Exception):
    """The drill could not be made or measured: nobody's fault but ours. One line."""


class DrillFailed(Exception):
    """What it was made to show did not show. One line."""


class Fault:
    """One drill on one bot. `make` is through by `until` (monotonic seconds). `proof`: what it showed, in words.

    `starting_s`: what starting the bot's process again has taken. That has a deadline of its own, as every launch has,
    and prolongs the drill's window: how fast a busy machine starts a process is not what is drilled.
    """

    def __init__(self, guard: GuardState, active: Active, drill_id: int, until: float) -> None:
        self.guard = guard
        self.active = active
        self.drill_id = drill_id
        self.until = until
        self.starting_s = 0.0
        self.proof: dict[str, str] = {}

    async def make(self) -> None:
        """Raises DrillNotRun, DrillFailed."""

    async def seen(self) -> None:
        """Once every criterion was tripped: that it was by this fault. Raises DrillNotRun, DrillFailed."""

    async def undo(self) -> None:
        """Takes it back, however far it came. Raises DrillNotRun, DrillFailed."""

    async def prove(self) -> None:
        """Once the bot runs again. Raises DrillFailed."""

    async def counted(self, after_seq: int) -> Totals | None:
        """What of the journal's totals was its doing after that entry, by whichever guard it was made; None where
        nothing tells it apart from what else was counted. Raises DrillNotRun."""
        return None

    async def call(self, name: str, **more: str) -> None:
        """Asks the bot until it takes the call. Raises DrillNotRun where it does not."""
        while self.active.operator is not None:
            told = await self.active.operator.drill(name, **more)
            if told.ok:
                return
            if time.monotonic() >= self.until:
                raise DrillNotRun(f"the bot does not take the call: {told.detail}")
            await asyncio.sleep(CALL_AGAIN_S)
        raise DrillNotRun("the bot's address is gone")

    async def status(self) -> dict[str, Any]:
        """The bot's own word. Raises DrillNotRun."""
        told = None if self.active.operator is None else await self.active.operator.status()
        if told is None or not told.ok:
            raise DrillNotRun(f"the bot does not answer: {'no address' if told is None else told.detail}")
        return told.body

    async def rows(self, query: str, *arguments: int | str) -> list[tuple[Any, ...]]:
        """A SELECT over the bot's journal. Raises DrillNotRun."""
        state_dir = self.active.state_dir
        if state_dir is None:
            raise DrillNotRun("the bot has no state folder")

        def read() -> list[tuple[Any, ...]]:
            with JournalReader(state_dir / "journal.db") as reader:
                return list(reader.rows(query, arguments))

        try:
            return await asyncio.to_thread(read)
        except (JournalError, OSError) as error:
            raise DrillNotRun(str(error)) from error

    def desk(self) -> VenueDesk:
        """The account at the venue, by a session of our own; to be closed."""
        guard, active = self.guard, self.active
        return VenueDesk(lambda: account_now(guard, active), active.stage.symbols, active.state_dir)

    async def orders_out(self, desk: VenueDesk) -> int:
        """Own orders at the venue, once there is one for each side of a symbol. Raises DrillNotRun."""
        said = "none was out"
        while time.monotonic() < self.until:
            try:
                own = (await desk.read_open()).own
                if own >= 2:
                    return own
                said = f"{own} out"
            except DeskError as error:
                said = str(error)
            await asyncio.sleep(LOOK_EVERY_S)
        raise DrillNotRun(f"two quotes were not out in time: {said}")


class Asked(Fault):
    """What the bot does to itself when it is asked to: freeze, maker-policy."""

    name: ClassVar[str] = ""

    async def make(self) -> None:
        await self.call(self.name)


class Freeze(Asked):
    name = "freeze"


class MakerPolicy(Asked):
    name = "maker-policy"


class KillSwitchRun(Fault):
    """The bot hangs (SIGSTOP) with orders out; the kill switch looks, then cancels for real, and proves it."""

    async def make(self) -> None:
        bot, desk = self.active.bot, self.desk()
        if bot is None:
            raise DrillNotRun("no bot is known")
        try:
            await self.orders_out(desk)
            bot.identity.send(signal.SIGSTOP)
            looked = await desk.kill_switch(execute=False)
            if looked.status != "dry_run" or not looked.reads or not looked.reads[-1].own_open:
                raise DrillNotRun(f"its dry run saw no order to cancel: {'; '.join(looked.errors) or 'none was open'}")
            report = await desk.kill_switch()
        except DeskError as error:
            raise DrillNotRun(str(error)) from error
        finally:
            bot.identity.send(signal.SIGCONT)
            desk.close()
        path = self.guard.folder.kill_switch_reports(self.guard.account) / f"drill-{self.drill_id}.json"
        await asyncio.to_thread(write_private, path, msgspec.json.encode(report).decode())
        if report.status != "executed":
            raise DrillFailed(f"the kill switch proved nothing: {'; '.join(report.errors)}")
        if not report.cancelled:
            raise DrillFailed("the kill switch cancelled nothing")
        self.proof["cancelled"] = str(report.cancelled)


class Restart(Fault):
    """SIGKILL with orders out; on its journal again it leaves none of them, and its limits on losing count on."""

    def __init__(self, guard: GuardState, active: Active, drill_id: int, until: float) -> None:
        super().__init__(guard, active, drill_id, until)
        self._losses: dict[str, str] = {}
        self._left: set[str] = set()
        self._killed = False

    async def make(self) -> None:
        if self.active.bot is not None and not self.active.bot.identity.is_alive():
            # A guard that died in this drill has killed it, and what stood then it alone knew.
            await self._start_again()
        bot, desk = self.active.bot, self.desk()
        if bot is None:
            raise DrillNotRun("no bot is known")
        try:
            await self.orders_out(desk)
            self._losses = dict((await self.status()).get("losses", {}))
            await self._kill(bot.identity)
            self._left = await self._own(desk)
        except DeskError as error:
            raise DrillNotRun(str(error)) from error
        finally:
            desk.close()
        if not self._left:
            raise DrillNotRun("no order was out when it was killed")
        self.proof["orders_left"] = str(len(self._left))

    async def _kill(self, process: Identity) -> None:
        """Written down first: by that a guard that comes back tells this death from one of the bot's own."""
        record, killing = self.guard.store.record, (process.pid, process.started_ticks)
        try:
            await self.guard.store.call(record.note_in_drill, self.drill_id, {KILLS: list(killing)})
        except SQLAlchemyError as error:
            raise DrillNotRun(f"the kill could not be written down: {str(error).splitlines()[0]}") from error
        if not process.is_alive():
            raise DrillFailed("the bot ended before it was killed")
        self.active.drilled.killing = killing
        process.send(signal.SIGKILL)
        self._killed = True

    async def undo(self) -> None:
        if self._killed:
            await self._start_again()

    async def _start_again(self) -> None:
        before, begun = self.active.bot, time.monotonic()
        try:
            await relaunch(self.guard, self.active)
        except LaunchError as error:
            said = f"it did not start again: {error}"
            now = self.active.bot
            ended = isinstance(error, BotEnded) or (
                now is not None and now is not before and not now.identity.is_alive()
            )
            raise (DrillFailed(said) if ended else DrillNotRun(said)) from error
        except (JournalError, OSError) as error:
            raise DrillNotRun(f"its journal could not be read: {error}") from error
        finally:
            took_s = time.monotonic() - begun
            self.starting_s += took_s
            self.until += took_s

    async def prove(self) -> None:
        desk = self.desk()
        try:
            survived = self._left & await self._own(desk)
        except DeskError as error:
            raise DrillNotRun(str(error)) from error
        finally:
            desk.close()
        if survived:
            raise DrillFailed(f"it quotes while {', '.join(sorted(survived))} of the one before still stands")
        if not self._losses:
            return
        now = (await self.status()).get("losses", {})
        since, peak = self._losses["since_quote"], Decimal(await self._journaled_peak())
        if now.get("since_quote") != since:
            raise DrillFailed(f"the day's loss is measured from {now.get('since_quote')}, before it was {since} quote")
        if Decimal(now["peak_quote"]) < peak:
            raise DrillFailed(f"the drawdown is measured from {now['peak_quote']}, before it was {peak} quote")
        self.proof["losses_since"] = since

    async def _own(self, desk: VenueDesk) -> set[str]:
        orders = await desk.read(lambda client: client.open_orders(self.active.stage.symbols))
        return {one.client_order_id for one in orders if one.client_order_id.startswith(OWN_PREFIX)}

    async def _journaled_peak(self) -> str:
        """The last peak that the process before had written down; what it had not was seen by nobody."""
        query = """SELECT json_extract(body, '$.fields.peak_quote') FROM entry WHERE kind = 'Note'
            AND json_extract(body, '$.event') = 'equity_sample'
            AND seq < (SELECT max(seq) FROM entry WHERE kind = 'Started') ORDER BY seq DESC LIMIT 1"""
        found = await self.rows(query)
        return str(found[0][0]) if found else "0"


class Orphan(Fault):
    """Another client of the account places an order under our prefix; the bot finds it, counts it and cancels it."""

    def __init__(self, guard: GuardState, active: Active, drill_id: int, until: float) -> None:
        super().__init__(guard, active, drill_id, until)
        self.order = f"{QUOTE_PREFIX}-{guard.epoch}-{time.time_ns() // 1_000_000}"
        self._placed = False

    async def make(self) -> None:
        await self.call("orphan", order=self.order)  # announced first: what follows is planned
        symbol, desk = self.active.stage.symbols[0], self.desk()
        try:
            top = await desk.read(lambda client: client.top_of_book(symbol))
            instrument = await desk.read(lambda client: client.instrument(symbol))
            price = instrument.price(instrument.ticks_floor(top.bid * AWAY))
            least = max(instrument.qty_min, instrument.notional_min_quote / price)
            qty = instrument.qty(instrument.lots_floor(least) + 1)
            await desk.read(lambda client: client.place_post_only(symbol, Side.BUY, qty, price, self.order))
            self._placed = True
        except DeskError as error:
            raise DrillNotRun(f"the order could not be placed: {error}") from error
        finally:
            desk.close()

    async def counted(self, after_seq: int) -> Totals:
        """By the bot's own notes: what it has counted for an order that was announced."""
        kind = "orders_remote_only"
        query = """SELECT count(*) FROM entry WHERE kind = 'Note' AND seq > ?
            AND json_extract(body, '$.event') = 'recon_divergence' AND json_extract(body, '$.fields.type') = ?
            AND json_extract(body, '$.fields.detail') IN (SELECT json_extract(body, '$.subject') FROM entry
                WHERE kind = 'DrillRequested' AND seq > ? AND json_extract(body, '$.name') = 'orphan')"""
        found = await self.rows(query, after_seq, kind, after_seq)
        return {(DIVERGENCES, label_text(DIVERGENCES, (kind,))): int(found[0][0])}

    async def undo(self) -> None:
        """Cancelled by us where the bot has not in time. That is the drill's failure where the venue said that it took
        the order, and says that it stands: what it did not answer blames nobody."""
        desk = self.desk()
        try:
            standing = await self._left_standing(desk)
            by_us = [await desk.read(lambda client, one=one: client.cancel(one)) for one in standing]  # type: ignore[misc]
        except DeskError as error:
            raise DrillNotRun(f"the order may still stand: {error}") from error
        finally:
            desk.close()
        if self._placed and any(by_us):  # what had ended before our cancel came the bot has cancelled
            raise DrillFailed(f"the bot did not cancel {self.order}")
        if self._placed:
            self.proof["cancelled"] = self.order

    async def _left_standing(self, desk: VenueDesk) -> list[AccountOrder]:
        """The order, once the bot has had its time to cancel it; none where it is gone. Raises DeskError."""
        until = max(self.until, time.monotonic() + CANCELLED_WITHIN_S) if self._placed else time.monotonic()
        while True:
            over = time.monotonic() >= until
            try:
                orders = await desk.read(lambda client: client.open_orders(self.active.stage.symbols))
                found = [one for one in orders if one.client_order_id == self.order]
                if over or not found:
                    return found
            except DeskError:
                if over:
                    raise
            await asyncio.sleep(LOOK_EVERY_S)


class StreamLoss(Fault):
    """Both of the bot's sockets are cut; it notices, opens them again, and reads the account before it quotes."""

    def __init__(self, guard: GuardState, active: Active, drill_id: int, until: float) -> None:
        super().__init__(guard, active, drill_id, until)
        self._after_seq = 0

    async def make(self) -> None:
        self._after_seq = int((await self.rows("SELECT coalesce(max(seq), 0) FROM entry"))[0][0])
        await self.call("stream-loss")

    async def prove(self) -> None:
        query = """SELECT kind, coalesce(json_extract(body, '$.stream'), ''), min(seq) FROM entry
            WHERE seq > ? AND kind IN ('StreamDown', 'StreamUp') GROUP BY 1, 2"""
        seen = {(str(kind), str(stream)): int(seq) for kind, stream, seq in await self.rows(query, self._after_seq)}
        for stream in ("public", "private"):
            for kind, what in (("StreamDown", "was not seen to be lost"), ("StreamUp", "did not come back")):
                if (kind, stream) not in seen:
                    raise DrillFailed(f"the {stream} stream {what}")
        lost, back = seen["StreamDown", "private"], seen["StreamUp", "private"]
        placed = await self._first("PlaceOrder", lost)
        for read in ("OpenOrdersRead", "PositionRead"):
            if not back < await self._first(read, back) < placed:
                raise DrillFailed(f"it placed an order before {read}")
        self.proof["read_before_quoting"] = "yes"

    async def _first(self, kind: str, after_seq: int) -> int:
        found = (await self.rows("SELECT min(seq) FROM entry WHERE kind = ? AND seq > ?", kind, after_seq))[0][0]
        if found is None:
            raise DrillFailed(f"its journal has no {kind} since the streams were lost")
        return int(found)
