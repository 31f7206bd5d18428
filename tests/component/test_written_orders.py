"""What a journal says may still stand: sent, and not seen to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.domain.events import OrderAccepted, OrderRefused, OrderStatus, OrderUnreachable, OrderUpdated, VenueOrder
from bot.domain.intent import PlaceOrder
from bot.domain.order import Side
from bot.journal import Journal, JournalError
from bot.runtime.written_orders import orders_that_may_stand

SYMBOL = "BTCUSDT"


def journal(folder: Path, account: str, *entries: object) -> Path:
    folder.mkdir(parents=True)
    writer = Journal(folder / "journal.db", {"account": account, "run": folder.name})
    for entry in entries:
        writer.intent(entry) if isinstance(entry, PlaceOrder) else writer.event(entry)  # type: ignore[arg-type]
    writer.commit({})
    writer.close()
    return folder


def sent(name: str) -> PlaceOrder:
    return PlaceOrder(1, name, SYMBOL, Side.BUY, 500_000, 2, 3)


def told(name: str, status: OrderStatus) -> OrderUpdated:
    return OrderUpdated(2, VenueOrder(SYMBOL, name, f"v-{name}", Side.BUY, 1, 1, 0, status))


def test_what_was_sent_and_not_seen_to_end_may_stand_newest_first(tmp_path: Path) -> None:
    names = [f"slwq-1-{number}" for number in range(7)]
    journal(
        tmp_path / "r-1", "a", *map(sent, names), OrderAccepted(2, names[0], "v"), told(names[1], OrderStatus.WORKING),
        told(names[2], OrderStatus.FILLED), told(names[3], OrderStatus.WORKING), told(names[3], OrderStatus.CANCELLED),
        OrderRefused(2, names[4], 110007, "no funds", False), OrderUnreachable(2, names[5], "no grant"),
    )  # fmt: skip
    found = [(SYMBOL, name) for name in (names[6], names[1], names[0])]
    assert orders_that_may_stand([tmp_path / "r-1"]) == found
    assert orders_that_may_stand([tmp_path]) == found, "the folder of all runs"


def test_of_several_journals_only_the_accounts_own_count(tmp_path: Path) -> None:
    journal(tmp_path / "r-1", "a", sent("slwq-1-1"))
    journal(tmp_path / "r-2", "b", sent("slwq-1-2"))
    assert orders_that_may_stand([tmp_path], "a") == [(SYMBOL, "slwq-1-1")]
    assert orders_that_may_stand([tmp_path / "nowhere"], "a") == []


def test_a_damaged_journal_keeps_no_other_from_being_read_and_is_an_error_alone(tmp_path: Path) -> None:
    journal(tmp_path / "r-1", "a", sent("slwq-1-1"))
    (tmp_path / "r-2").mkdir()
    (tmp_path / "r-2" / "journal.db").write_text("no journal")
    assert orders_that_may_stand([tmp_path]) == [(SYMBOL, "slwq-1-1")]
    with pytest.raises(JournalError, match=r"r-2/journal\.db"):
        orders_that_may_stand([tmp_path / "r-2"])
