"""The bot killed at random moments with orders out, and recovered: again and again, on one venue, under one seed.

While it is dead another client plants an own-looking order that no journal knows, as a lost answer would. After each
recovery everything is asked of the venue by a stranger's client (pybit), never of the bot alone:

- what stood at the kill is gone, and so is what was planted; what stands now is in the journal;
- the first quote was created after account and position had been read, and after the last leftover had gone;
- a foreign order stands as it was placed;
- the journal's executions are the venue's, and profit and fees of the bot are theirs to the last digit.

Whatever is not so raises RecoveryFailed, which says what and under which seed and kill.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from pybit.unified_trading import HTTP

from bot.domain.events import Filled, InstrumentsRead
from bot.domain.order import Side
from bot.engine.ledger import Ledger
from bot.engine.recovery import instrument_of
from bot.journal import JournalReader
from tests.support.bot_rig import DEMO_SETTINGS, Bot, SimulatedVenue, running_bot, wait_for
from tests.support.judged_venue import SYMBOL, Key
from tests.support.pybit_client import HERE, http, terms
from tests.support.redis_server import RedisServer

OWN_PREFIX = "slw"
FLAGS = ("--post-only-offset-bps", "0", "--edge-threshold", "0")
"""Close to the market, so that there are fills to account for."""

BUSY = """
strategy:
  half_spread_bps: 1
  order_notional_quote: 150
  requote_tolerance_bps: 0
  requote_interval_ms: 50
risk:
  orders_per_min_max: 600
  price_collar_bps: 9000
  cancels_per_min_max: 10000
  cancel_budget_per_min: 10000
stop:
  stale_after_ms: 3000
  hysteresis_s: 1
venue:
  receive_window_ms: 1000
  not_found_margin_ms: 500
  disconnect_cancel_s: 0
fees:
  fee_maker_bps: 0
  rebate_maker_bps: 50
"""
RECOVERED_WITHIN_S = 30.0
LIVED_S_MAX = 1.5
"""A bot that quotes is killed within this much; one that starts within STARTED_S_MAX."""
STARTED_S_MAX = 0.5
DURING_RECOVERY_SHARE = 0.2
SERVER_SHARE = 0.5
"""So often the journal's server dies too: half of these before the bot, which then has something it could not write."""
KILLS_EACH_MAX = 3
"""So many kills, on average, may one with an order out take."""
ALONE_S_MAX = 0.5
"""A bot whose journal's server is gone is killed within this much."""


class RecoveryFailed(AssertionError):
    """What did not hold, with the seed and the kill."""


def settings_file(folder: Path, more: str = "") -> Path:
    """Settings under which there is always something to recover."""
    path = folder / "busy.yaml"
    path.write_text(BUSY + more, encoding="utf-8")
    return path


@dataclass
class Drill:
    """One account and its bot. `kills` so far, `during_recovery` of them, `fills` accounted for at the last look.

    `with_orders`: of the kills, those at which an order stood that a bot of this drill had sent; `seen_orders`: how
    many those were in all. What the drill plants counts for neither.
    """

    venue: SimulatedVenue
    folder: Path
    seed: int
    settings: Path = DEMO_SETTINGS
    kills: int = 0
    epoch: int = 0
    fills: int = 0
    leftovers: set[str] = field(default_factory=set)
    planted: set[str] = field(default_factory=set)
    with_orders: int = 0
    seen_orders: int = 0
    during_recovery: int = 0
    server: RedisServer | None = None
    """Where the journal is kept, if that can die."""
    server_kills: int = 0
    agrees_within_s: float = 15.0
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.account = self.venue.account()
        key = Key(self.account["account"], self.account["api_key"], self.account["api_secret"])
        self.stranger: HTTP = http(self.venue, key)  # type: ignore[arg-type]  # it has the addresses too
        self._foreign_id = self.stranger.place_order(category="linear", **terms(self.stranger, "hand-1", away=40_000))[
            "result"
        ]["orderId"]
        self._foreign = self._rows("open")[self._foreign_id]

    # ---- the course -------------------------------------------------------------------------------------------------

    def kill_with_orders(self, wanted: int) -> None:
        """Kills until so many of them had an order out. Raises RecoveryFailed, also where they have none too often."""
        while self.with_orders < wanted:
            if self.kills >= wanted * KILLS_EACH_MAX:
                raise self._failed(f"only {self.with_orders} of them had an order out, {wanted} were wanted")
            self.kill()

    def kill(self) -> None:
        """One life of the bot: recovers, is checked, quotes, and dies at a moment that the seed draws."""
        with self.life() as bot:
            if self.kills and self._random.random() < DURING_RECOVERY_SHARE:
                self.during_recovery += 1
                time.sleep(self._random.uniform(0, STARTED_S_MAX))  # the moment itself, not a wait for something
            else:
                self.recovered(bot)
                time.sleep(self._random.uniform(0, LIVED_S_MAX))
            self._kill_both(bot)
        self.kills += 1
        self._note_leftovers()

    def _kill_both(self, bot: Bot) -> None:
        """The bot, and as the seed draws its journal's server a moment before or after it; that is up again then."""
        dies = self.server is not None and self._random.random() < SERVER_SHARE
        first = dies and self._random.random() < SERVER_SHARE
        if self.server is not None and first:
            self.server.kill()
            time.sleep(self._random.uniform(0, ALONE_S_MAX))
        bot.stop(signal.SIGKILL)
        if self.server is not None and dies:
            if not first:
                self.server.kill()
            self.server.start()
            self.server_kills += 1

    @contextlib.contextmanager
    def life(self) -> Iterator[Bot]:
        """A bot that continues what the one before left, without a grant yet."""
        extra = (*FLAGS, *self.flags, *(("--recover",) if self.kills else ()))
        with running_bot(self.venue, self.folder, settings=self.settings, extra=extra, account=self.account) as bot:
            yield bot

    def recovered(self, bot: Bot) -> None:
        """Grants it a new epoch, waits until it quotes, and checks everything. Raises RecoveryFailed."""
        self.epoch += 1
        bot.renew(self.epoch)
        try:
            wait_for("it quotes", self._quotes, RECOVERED_WITHIN_S)
        except TimeoutError:
            raise self._failed(f"it does not quote within {RECOVERED_WITHIN_S:.0f} s: {bot.status()}") from None
        self._check_orders()
        self._check_course()
        self.check_ledger(bot)
        self.leftovers.clear()

    def finish(self) -> None:
        """A last life that ends in order: nothing of ours is left but what the ledger knows."""
        with self.life() as bot:
            self.recovered(bot)
            if (code := bot.stop()) != 0:
                raise self._failed(f"it ended with code {code}")
        own = [row for row in self._rows("open").values() if row["orderLinkId"].startswith(OWN_PREFIX)]
        if own:
            raise self._failed(f"own orders are left at the end: {own}")
        held = {row["symbol"]: row for row in self.stranger.get_positions(**HERE)["result"]["list"]}[SYMBOL]
        signed = Decimal(held["size"] or "0") * (-1 if held["side"] == "Sell" else 1)
        fills = self._venue_fills()
        if signed != sum((fill.side.sign * fill.qty_lots for fill in fills), 0) * Decimal("0.001"):
            raise self._failed(f"the position {signed} is not the sum of {len(fills)} executions")

    # ---- what is checked --------------------------------------------------------------------------------------------

    def _quotes(self) -> bool:
        """An order of this life stands. Whatever stands that is older is for the checks to find."""
        return any(row["orderLinkId"].startswith(f"slwq-{self.epoch}-") for row in self._rows("open").values())

    def _check_orders(self) -> None:
        standing = self._rows("open")
        if standing.pop(self._foreign_id, None) != self._foreign:
            raise self._failed("the foreign order does not stand as it was placed")
        with self._journal() as journal:
            known = {row[0] for row in journal.rows("SELECT client_order_id FROM orders")}
        for row in standing.values():
            name = row["orderLinkId"]
            if name in self.leftovers or not name.startswith(f"slwq-{self.epoch}-"):
                raise self._failed(f"{name} survived")
            if name not in known:
                raise self._failed(f"{name} is in no journal")

    def _check_course(self) -> None:
        """By the journal's order of entries, and by the venue's clock."""
        with self._journal() as journal:
            (started,) = journal.rows("SELECT max(seq) FROM entry WHERE kind = 'Started'")
            first: dict[str, tuple[int, int]] = {
                kind: (seq, at_ns)
                for kind, seq, at_ns in journal.rows(
                    "SELECT kind, min(seq), min(at_ns) FROM entry WHERE seq > ? GROUP BY kind", started
                )
            }
        if "PlaceOrder" not in first:
            raise self._failed("it quotes, and its journal has no order of this life")
        for read in ("OpenOrdersRead", "PositionRead"):
            if read not in first or first[read][0] > first["PlaceOrder"][0]:
                raise self._failed(f"it quoted before {read}")
        rows = [*self._rows("history").values(), *self._rows("open").values()]
        quoted_ms = min(int(row["createdTime"]) for row in rows if row["orderLinkId"].startswith(f"slwq-{self.epoch}-"))
        if quoted_ms < first["PositionRead"][1] // 1_000_000:
            raise self._failed("by the venue's clock its first order is older than its reading of the position")
        ended = {row["orderLinkId"]: row for row in rows if row["orderLinkId"] in self.leftovers}
        for name in self.leftovers:
            if name not in ended or ended[name]["orderStatus"] not in ("Cancelled", "Filled"):
                raise self._failed(f"{name} has not ended: {ended.get(name)}")
            if int(ended[name]["updatedTime"]) > quoted_ms:
                raise self._failed(f"it quoted while {name} still stood")

    def check_ledger(self, bot: Bot) -> None:
        """The journal's executions are the venue's, the bot's sums theirs; at one moment at least, for fills go on."""
        said = ""

        def agrees() -> bool:
            nonlocal said
            said = self._ledger_differs(bot)
            return not said

        try:
            wait_for("the ledger agrees", agrees, self.agrees_within_s)
        except TimeoutError:
            raise self._failed(said) from None

    def _ledger_differs(self, bot: Bot) -> str:
        """Empty where all agrees.

        The bot's sums are read between two equal readings of the venue; while the journal is read, which is long after
        many lives, fills may go on. Where they go on between the two readings the sums alone cannot be compared.
        """
        theirs = self._venue_fills_by_id()
        shown = bot.status()["pnl"]
        still = theirs.keys() == self._venue_fills_by_id().keys()
        ours: dict[str, Filled] = {}
        with self._journal() as journal:
            for entry in journal.entries(kind="Filled"):
                fill = msgspec.json.decode(entry.body, type=Filled)
                ours.setdefault(fill.execution_id, fill)
            (grid,) = journal.rows("SELECT body FROM entry WHERE kind = 'InstrumentsRead' ORDER BY seq LIMIT 1")
        if missing := theirs.keys() - ours.keys():
            return f"{len(missing)} of {len(theirs)} executions are in no journal: {sorted(missing)[:3]}"
        more = ours.keys() - theirs.keys()
        if more and (more := more - self._venue_fills_by_id().keys()):
            return f"{len(more)} executions are not the venue's: {sorted(more)[:3]}"
        for name, fill in theirs.items():
            if _terms(ours[name]) != _terms(fill):
                return f"execution {name} is {_terms(ours[name])}, at the venue {_terms(fill)}"
        if not still:
            return "no moment without a fill"
        instrument = instrument_of(msgspec.json.decode(grid[0], type=InstrumentsRead))
        ledger = Ledger([SYMBOL])
        for fill in sorted(theirs.values(), key=lambda one: (one.venue_at_ns, one.execution_id)):
            ledger.record(fill, instrument)
        sums = ledger.pnl(SYMBOL, None, None)
        for kind in ("realized", "fees", "rebates"):
            if Decimal(shown[kind]) != getattr(sums, kind):
                return f"{kind} is {shown[kind]}, by the venue's executions {getattr(sums, kind)}"
        self.fills = len(theirs)
        return ""

    def lowest_sample_quote(self) -> float:
        """The worst result that the journal has noted."""
        with self._journal() as journal:
            query = "SELECT min(CAST(json_extract(body, '$.fields.net_quote') AS REAL)) FROM entry WHERE kind = 'Note'"
            return float(next(journal.rows(query))[0] or 0)

    # ---- the venue's word -------------------------------------------------------------------------------------------

    def _note_leftovers(self) -> None:
        """What stands while nobody lives, and one more that looks like ours."""
        planted = f"slwq-{max(1, self.epoch)}-9{self.kills:05d}"
        self.planted.add(planted)
        self.stranger.place_order(category="linear", **terms(self.stranger, planted, away=5_000))
        own = {row["orderLinkId"] for row in self._rows("open").values() if row["orderLinkId"].startswith(OWN_PREFIX)}
        sent = own - self.planted
        self.with_orders += bool(sent)
        self.seen_orders += len(sent)
        self.leftovers |= own

    def _rows(self, what: str) -> dict[str, dict[str, Any]]:
        ask = self.stranger.get_open_orders if what == "open" else self.stranger.get_order_history
        return {row["orderId"]: row for row in pages(ask, limit=50)}

    def _venue_fills_by_id(self) -> dict[str, Filled]:
        return {fill.execution_id: fill for fill in self._venue_fills()}

    def _venue_fills(self) -> list[Filled]:
        rows = pages(self.stranger.get_executions, limit=100, execType="Trade")
        return [
            Filled(
                int(row["execTime"]) * 1_000_000,
                row["execId"],
                row["orderLinkId"],
                row["orderId"],
                row["symbol"],
                Side.BUY if row["side"] == "Buy" else Side.SELL,
                Decimal(row["execPrice"]),
                int(Decimal(row["execQty"]) / Decimal("0.001")),
                Decimal(row["execFee"]),
                row["isMaker"],
                int(row["execTime"]) * 1_000_000,
            )
            for row in reversed(rows)
        ]

    def _journal(self) -> JournalReader:
        return JournalReader(self.folder / "run" / "journal.db")

    def _failed(self, what: str) -> RecoveryFailed:
        return RecoveryFailed(f"seed {self.seed}, after {self.kills} kills: {what}")


def pages(ask: Any, **options: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = ask(**HERE, **options, **({"cursor": cursor} if cursor else {}))["result"]
        rows += page["list"]
        cursor = page["nextPageCursor"]
        if not cursor or not page["list"]:
            return rows


def _terms(fill: Filled) -> tuple[object, ...]:
    return (fill.client_order_id, fill.side, fill.price, fill.qty_lots, fill.fee_quote, fill.is_maker)
