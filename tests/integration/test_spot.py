"""A spot symbol through the whole bot: coins instead of positions, and the ledger is the venue's all the same."""

from __future__ import annotations

import asyncio
import signal
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.events import Filled
from bot.journal import JournalReader
from bot.venues.bybit.adapter import BybitAdapter
from bot.venues.bybit.hosts import BybitHosts
from tests.integration.test_kill_switch_process import Switch
from tests.support.bot_rig import Bot, SimulatedVenue, running_bot, simulated_venue, wait_for
from tests.support.judged_venue import Key
from tests.support.pybit_client import http
from tests.support.recovery import FLAGS, settings_file

pytestmark = pytest.mark.integration

HERE = {"category": "spot", "symbol": "BTCUSDT"}
D = Decimal
LOT = D("0.0001")
EQUITY_QUOTE = "3000"
"""A tenth of it is in the coin from the start: something to sell, within the inventory of 500 that a grant allows."""


class Desk:
    """The account by the venue's word, as pybit tells it."""

    def __init__(self, venue: SimulatedVenue) -> None:
        self.account = venue.account(EQUITY_QUOTE)
        self.key = Key(self.account["account"], self.account["api_key"], self.account["api_secret"])
        self._client = http(venue, self.key)  # type: ignore[arg-type]  # it has the addresses too

    def open_sides(self) -> set[str]:
        return {row["side"] for row in self._client.get_open_orders(**HERE)["result"]["list"]}

    def executions(self) -> dict[str, dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        cursor: str | None = None
        while cursor != "":
            page = self._client.get_executions(**HERE, limit=100, cursor=cursor)["result"]
            rows += page["list"]
            cursor = page["nextPageCursor"]
        return {row["execId"]: row for row in rows}

    def coin(self) -> Decimal:
        """What the wallet holds of the coin."""
        (account,) = self._client.get_wallet_balance(accountType="UNIFIED")["result"]["list"]
        return next(D(row["walletBalance"]) for row in account["coin"] if row["coin"] == "BTC")


def filled(bot: Bot) -> dict[str, Filled]:
    """The executions of its journal."""
    with JournalReader(bot.state_dir / "journal.db") as journal:
        fills = [msgspec.json.decode(entry.body, type=Filled) for entry in journal.entries(kind="Filled")]
    return {fill.execution_id: fill for fill in fills}


def differs(bot: Bot, desk: Desk, before: Decimal) -> str:
    """How the bot's books are not the venue's: executions, coin, profit and fees; empty where they are."""
    ours, theirs = filled(bot), desk.executions()
    if ours.keys() != theirs.keys():
        return f"executions {ours.keys() ^ theirs.keys()}"
    coin = before + sum((flow(row) for row in theirs.values()), D(0))
    if coin != desk.coin():
        return f"the wallet holds {desk.coin()}, its executions make {coin}"
    status = bot.status()
    if D(status["positions"]["BTCUSDT"]["qty"]) != LOT * (coin // LOT):
        return f"the bot holds {status['positions']}, the wallet {coin}"
    fees = sum(
        (D(row["execFee"]) * (D(row["execPrice"]) if row["feeCurrency"] == "BTC" else 1) for row in theirs.values()),
        D(0),
    )
    if D(status["pnl"]["fees"]) != fees:
        return f"fees are {status['pnl']['fees']}, the venue's {fees}"
    return ""


def flow(row: dict[str, Any]) -> Decimal:
    """The coin that an execution brought."""
    qty, fee = D(row["execQty"]), D(row["execFee"])
    return (qty if row["side"] == "Buy" else -qty) - (fee if row["feeCurrency"] == "BTC" else 0)


def sides(desk: Desk) -> set[str]:
    return {row["side"] for row in desk.executions().values()}


def test_what_is_held_is_told_before_the_filters_were_read(tmp_path: Path) -> None:
    """As a bot asks that recovers: its journal tells it the filters, and its first look may overtake their read."""

    async def held(venue: SimulatedVenue, desk: Desk) -> Decimal:
        hosts = BybitHosts(*(venue.ready[name] for name in ("rest_url", "ws_public_spot_url", "ws_private_url")), "")
        adapter = BybitAdapter(
            hosts, desk.account["api_key"], desk.account["api_secret"], ["BTCUSDT"], time.time_ns, category="spot"
        )
        try:
            await adapter.server_time_ms()
            return (await adapter.position("BTCUSDT")).qty
        finally:
            await adapter.close()

    with simulated_venue(tmp_path, seed=3, options=("--spot-symbols", "BTCUSDT")) as venue:
        desk = Desk(venue)
        assert asyncio.run(held(venue, desk)) == desk.coin() > 0


def test_a_spot_symbol_is_quoted_on_both_sides_accounted_for_recovered_and_stopped(tmp_path: Path) -> None:
    settings = settings_file(tmp_path)
    settings.write_text(settings.read_text().replace("venue:\n", "venue:\n  category: spot\n"))
    with simulated_venue(tmp_path, seed=3, options=("--spot-symbols", "BTCUSDT")) as venue:
        desk = Desk(venue)
        before = desk.coin()
        rig: dict[str, Any] = {
            "settings": settings,
            "account": desk.account,
            "environment": {"MM_VENUE_WS_PUBLIC_URL": venue.ready["ws_public_spot_url"]},
        }
        with running_bot(venue, tmp_path, extra=FLAGS, **rig) as bot:
            bot.renew(1)
            wait_for("quotes on both sides", lambda: desk.open_sides() == {"Buy", "Sell"}, 30)
            wait_for("a purchase and a sale", lambda: sides(desk) == {"Buy", "Sell"}, 60)
            bot.stop(signal.SIGKILL)
        with running_bot(venue, tmp_path, extra=(*FLAGS, "--recover"), **rig) as bot:
            bot.renew(2)
            wait_for("quotes again", lambda: desk.open_sides() == {"Buy", "Sell"}, 30)
            runs = bot.metrics()["mm_recon_runs_total"]
            wait_for("the account read twice more", lambda: bot.metrics()["mm_recon_runs_total"] >= runs + 2, 30)
            bot.lapse()  # for five seconds more it may quote: so long, and a request's way, the proof has to wait
            options = ("--execute", "--category", "spot", "--quiet-s", "0.5", "--late-s", "8")
            switch = Switch(venue, desk.account, tmp_path, *options)
            code, report, said = switch.ended()
            assert (code, report["status"]) == (0, "executed"), said
            assert desk.open_sides() == set()
            wait_for("the books agree", lambda: differs(bot, desk, before) == "", 10)
            shown = bot.metrics()
            assert sum(value for name, value in shown.items() if name.startswith("mm_recon_divergence_total")) == 0
            assert sum(value for name, value in shown.items() if name.startswith("mm_orders_rejected_total")) == 0
            assert shown['mm_taker_fills_total{symbol="BTCUSDT"}'] == 0
            assert bot.stop() == 0
