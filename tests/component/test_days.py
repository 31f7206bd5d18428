"""The day in `daily_state.json`: it begins at midnight UTC, whoever ran then, and a restart does not begin it anew."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from bot.domain.order import Side
from bot.engine.ledger import DAY_NS
from bot.exports import Exports
from tests.component.test_restoring import Recorded
from tests.support.engine_driver import START, S

D = Decimal
MIDNIGHT = (START // DAY_NS + 1) * DAY_NS
DAY, NEXT = "2023-11-14", "2023-11-15"


class Kept(Recorded):
    """A driver with its export files. `killed`: nothing is written any more, and what comes next is a new process."""

    def __init__(self, folder: Path, now_ns: int) -> None:
        super().__init__(two_man_rule=False, inventory_max_quote=D(1000))
        self.folder = folder
        self.now = now_ns
        self.exports = Exports(folder)

    def goes_on(self, seconds: int) -> None:
        """Time passes; each second is looked at, as housekeeping does."""
        for _ in range(seconds):
            self.wait(S)
            self.exports.sample(self.engine.state, self.now)

    def killed(self, back_at_ns: int) -> None:
        last_ns, self.now = self.now, back_at_ns
        self.restart(self.entries)
        self.exports = Exports(self.folder, last_ns)
        self.start()

    def buys(self, lots: int) -> None:
        self.fill(self.quotes[Side.BUY].client_order_id, lots)

    def day(self, name: str = "daily_state") -> dict[str, Any]:
        self.exports.write(self.engine.state, self.now)
        found: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        return found

    @property
    def net(self) -> Decimal:
        return self.engine.pnl().net


def test_a_restart_within_a_day_leaves_what_was_earned_and_filled_that_day(tmp_path: Path) -> None:
    bot = Kept(tmp_path, MIDNIGHT - 600 * S)
    bot.start()
    bot.goes_on(2)
    bot.buys(4)
    bot.goes_on(2)
    bot.killed(bot.now + 60 * S)
    bot.goes_on(5)
    bot.buys(1)
    found = bot.day()
    assert (found["date_utc"], found["fills_today"], found["fills"]) == (DAY, 2, 2)
    assert D(found["net_today_quote"]) == bot.net != 0


def test_a_bot_that_is_killed_before_midnight_and_comes_back_after_it_closes_the_one_day_and_begins_the_next(
    tmp_path: Path,
) -> None:
    bot = Kept(tmp_path, MIDNIGHT - 200 * S)
    bot.start()
    bot.goes_on(2)
    bot.buys(4)
    bot.goes_on(70)  # a minute's result is in the journal
    before = bot.net
    bot.day()
    bot.killed(MIDNIGHT + 300 * S)
    bot.goes_on(5)
    bot.buys(1)
    bot.goes_on(2)
    today, ended = bot.day(), bot.day(f"daily_state-{DAY}")
    assert (ended["date_utc"], ended["fills_today"], D(ended["net_today_quote"])) == (DAY, 1, before)
    assert (today["date_utc"], today["fills_today"], today["fills"]) == (NEXT, 1, 2)
    assert D(ended["net_today_quote"]) + D(today["net_today_quote"]) == bot.net


def test_a_second_restart_after_midnight_changes_neither(tmp_path: Path) -> None:
    bot = Kept(tmp_path, MIDNIGHT - 100 * S)
    bot.start()
    bot.goes_on(2)
    bot.buys(4)
    bot.goes_on(62)
    bot.killed(MIDNIGHT + 10 * S)
    bot.goes_on(5)
    bot.buys(1)
    ended = bot.day(f"daily_state-{DAY}")
    bot.killed(MIDNIGHT + 100 * S)
    bot.goes_on(5)
    assert bot.day(f"daily_state-{DAY}") == ended
    assert bot.day()["fills_today"] == 1


def test_a_bot_that_lives_through_midnight_turns_with_it(tmp_path: Path) -> None:
    bot = Kept(tmp_path, MIDNIGHT - 10 * S)
    bot.start()
    bot.goes_on(2)
    bot.buys(4)
    bot.goes_on(12)
    bot.buys(1)
    today, ended = bot.day(), bot.day(f"daily_state-{DAY}")
    assert (ended["fills_today"], today["fills_today"]) == (1, 1)
    assert D(ended["net_today_quote"]) + D(today["net_today_quote"]) == bot.net


def test_a_journal_that_never_wrote_a_day_begins_one_where_its_account_stands(tmp_path: Path) -> None:
    """What it earned before belongs to days that nobody wrote down, not to this one."""
    bot = Kept(tmp_path, MIDNIGHT + 600 * S)
    bot.start()
    bot.goes_on(2)
    bot.buys(4)
    bot.goes_on(2)
    assert bot.net
    bot.entries = [one for one in bot.entries if getattr(one, "event", "") != "day_began"]
    bot.killed(bot.now + 5 * S)
    bot.goes_on(2)
    today = bot.day()
    assert (today["fills"], today["fills_today"]) == (1, 0)
    assert abs(D(today["net_today_quote"])) < abs(bot.net) / 10
