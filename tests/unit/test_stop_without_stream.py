"""How long a stop takes while the account's stream says nothing: what the venue knows is asked for, not waited for."""

from __future__ import annotations

from typing import Any

import pytest

from bot.domain import events as ev
from bot.domain import intent as it
from tests.support.engine_driver import MS, Driver, S, of

WINDOW_S = 7
"""Receive window and margin: until then a create that nobody has heard of may still come."""


class Unheard(Driver):
    """Answers come as ever; its stream has said nothing of an order yet, and is cut as the stop begins.

    `lost`: creates have no answer either, and `comes_ns` after the stop they are at the venue, never where it is None.
    """

    def __init__(self, *, lost: bool = False, comes_ns: int | None = 0) -> None:
        super().__init__()
        self.lost, self.comes_ns = lost, comes_ns
        self.stopped_ns = 0
        self.late: dict[str, ev.VenueOrder] = {}
        self.ended: dict[str, ev.VenueOrder] = {}

    def _answers(self, intent: it.Intent) -> list[ev.Event]:
        if self.late and self.comes_ns is not None and self.stopped_ns and self.now >= self.stopped_ns + self.comes_ns:
            self.venue |= self.late
            self.late = {}
        if isinstance(intent, it.PlaceOrder):
            accepted, _ = super()._answers(intent)
            if not self.lost:
                return [accepted]
            self.late[intent.client_order_id] = self.venue.pop(intent.client_order_id)
            return [ev.OrderUncertain(self.now, intent.client_order_id, 0, "no answer")]
        if isinstance(intent, it.CancelAll | it.CancelOrder):
            before = dict(self.venue)
            answered = super()._answers(intent)[:1]
            gone = {name: order for name, order in before.items() if name not in self.venue}
            self.ended |= {name: ended(order) for name, order in gone.items()}
            return answered
        if isinstance(intent, it.ProbeOrder) and intent.client_order_id in self.ended:
            return [ev.OrderUpdated(self.now, self.ended[intent.client_order_id])]
        return super()._answers(intent)

    def cut(self) -> None:
        self.stopped_ns = self.now
        self.tell(ev.StreamDown(self.now, "private", "cut"))

    def took_s(self) -> list[float]:
        name = "mm_cancel_all_duration_seconds"
        return [value for metric, _, value in self.engine.drain_observations() if metric == name]

    def shown_active(self) -> float:
        gauges = self.engine.gauges(self.now)
        return next(value for name, _, value in gauges if name == "mm_active_orders")

    def proven_after_s(self) -> float:
        (note,) = self.notes("cancel_all_done")
        return (note.at_ns - self.stopped_ns) / S


def ended(order: ev.VenueOrder) -> ev.VenueOrder:
    values: dict[str, Any] = {name: getattr(order, name) for name in order.__struct_fields__}
    return ev.VenueOrder(**{**values, "status": ev.OrderStatus.CANCELLED})


def test_what_was_acknowledged_and_never_confirmed_is_asked_for_as_soon_as_a_read_shows_none() -> None:
    driver = Unheard().start()
    assert len(driver.venue) == 2
    assert not any(order.confirmed for order in driver.engine.live_orders())
    driver.cut()
    driver.wait(S)
    assert driver.venue == {}
    assert driver.proven_after_s() < 0.5
    (took_s,) = driver.took_s()
    assert took_s < 0.5


@pytest.mark.parametrize("again", [False, True], ids=["down", "up again"])
def test_a_create_of_unknown_outcome_is_never_taken_for_gone_before_its_window_is_over(again: bool) -> None:
    """The venue shows none within the second; that none will come is proven when the specification says."""
    driver = Unheard(lost=True, comes_ns=None).start()
    driver.cut()
    driver.wait(S)
    (took_s,) = driver.took_s()
    assert took_s < 0.5
    assert driver.shown_active() == 0
    up_ns = driver.now
    if again:
        driver.tell(ev.StreamUp(driver.now, "private"))
    driver.wait((WINDOW_S - 1) * S)
    assert driver.notes("cancel_all_done") == []
    assert list(driver.engine.live_orders()), "it counts as standing"
    driver.wait(8 * S)
    done = driver.notes("cancel_all_done")
    assert bool(done) is again, "with the stream up throughout, or not at all"
    if again:
        assert done[0].at_ns - up_ns >= WINDOW_S * S
    assert driver.took_s() == [], "and nothing was counted twice"


@pytest.mark.parametrize("comes_s", [0.0, 1.6, 3.3, 6.7])
def test_a_create_that_comes_late_is_found_and_gone_within_a_second_of_when_the_venue_last_had_none(
    comes_s: float,
) -> None:
    driver = Unheard(lost=True, comes_ns=int(comes_s * S)).start()
    names = set(driver.late)
    assert len(names) == 2
    driver.cut()
    gone_ns = 0
    for _ in range(80):
        driver.wait(100 * MS)
        if not gone_ns and names <= driver.ended.keys():
            gone_ns = driver.now
    assert gone_ns - driver.stopped_ns <= (comes_s + 0.5) * S
    assert driver.venue == {}
    took_s = driver.took_s()
    assert len(took_s) == (1 if comes_s == 0.0 else 2)
    assert max(took_s) < 1.0
    assert driver.proven_after_s() < comes_s + 1.0
    assert of(it.CancelAll, driver.sent), "the stop itself"


def test_another_order_that_stands_for_long_is_not_hidden_behind_one_that_nobody_has_heard_of() -> None:
    driver = Unheard(lost=True, comes_ns=None).start()
    driver.silent = {it.CancelAll}
    driver.cut()
    driver.wait(3 * S)
    assert driver.took_s() == []
    driver.silent = set()
    driver.wait(4 * S)
    (took_s,) = driver.took_s()
    assert took_s > 3


def test_an_answer_speaks_of_when_it_was_asked_for_however_many_questions_left_since() -> None:
    driver = Unheard(lost=True, comes_ns=None).start()
    driver.silent = {it.ProbeOrder, it.CancelAll}
    driver.tell(ev.StopRequested(driver.now, "hold", "fault", "people", "operator"))
    driver.wait(S)
    early = {one.client_order_id: one.at_ns for one in of(it.ProbeOrder, driver.sent)}
    driver.silent = {it.ProbeOrder}
    driver.wait((WINDOW_S + 1) * S)
    assert all(one.at_ns > early[one.client_order_id] for one in of(it.ProbeOrder, driver.sent)[-2:])
    for client_order_id, asked_at_ns in early.items():
        driver.tell(ev.OrderNotFound(driver.now, client_order_id, asked_at_ns))
    assert driver.took_s() == [], "what was not there before the cancel-all was answered may be there since"
    assert len(list(driver.engine.live_orders())) == 2, "nor is it gone: it was asked for before its window was over"
    driver.silent = set()
    driver.wait(6 * S)
    assert list(driver.engine.live_orders()) == []
