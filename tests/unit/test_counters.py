"""The engine's own counters."""

from __future__ import annotations

import pytest

from bot.engine.counters import Counters

KEY = ("mm_freeze_events_total", ("drill", "planned"))


def test_what_was_raised_is_in_the_counts_when_they_are_asked_for_and_told_once_as_changed() -> None:
    counters = Counters(("BTCUSDT",))
    counters.counts.drain()
    counters.add("mm_recon_runs_total")
    counters.raise_by(KEY, 2)
    counters.raise_by(KEY, 3)
    assert counters.get(*KEY[:1], *KEY[1]) == counters.counts[KEY] == 5
    assert sorted(counters.counts.drain()) == [(KEY, 5), (("mm_recon_runs_total", ()), 1)]
    assert counters.counts.drain() == []
    counters.add("mm_recon_runs_total", by=4)
    assert counters.counts.drain() == [(("mm_recon_runs_total", ()), 5)]


def test_a_counter_that_was_not_born_at_0_is_refused() -> None:
    counters = Counters(("BTCUSDT",))
    with pytest.raises(KeyError):
        counters.add("mm_orders_placed_total", "ETHUSDT", "buy")
    with pytest.raises(KeyError):
        counters.add("mm_nothing_total")


def test_reset_takes_back_what_nobody_has_asked_for_yet() -> None:
    counters = Counters(("BTCUSDT",))
    counters.raise_by(KEY, 2)
    counters.reset()
    assert set(counters.counts.values()) == {0}
