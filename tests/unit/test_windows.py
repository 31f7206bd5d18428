"""When a rollout may promote: days, hours, funding, freeze periods; and when it may next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gates.windows import Closed, PromotionWindows

MONDAY = datetime(2026, 11, 30, 10, 0, tzinfo=UTC)
OFFICE = PromotionWindows(
    days=("mon", "tue", "wed", "thu"),
    hours="08:30-15:30",
    funding_margin_min=15,
    closed=(
        Closed(since=datetime(2026, 12, 1, tzinfo=UTC), until=datetime(2026, 12, 3, tzinfo=UTC), why="year-end freeze"),
    ),
)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (MONDAY, ""),
        (MONDAY.replace(hour=8, minute=29), "08:29 UTC is outside 08:30-15:30"),
        (MONDAY.replace(hour=15, minute=29), ""),
        (MONDAY.replace(hour=15, minute=30), "15:30 UTC is outside"),
        (MONDAY + timedelta(days=4), "Friday is no day of promotion"),
        (MONDAY + timedelta(days=1), "year-end freeze"),
        (MONDAY.astimezone().replace(microsecond=5), ""),
    ],
)
def test_what_is_closed_says_why(at: datetime, said: str) -> None:
    assert (OFFICE.closed_because(at) == "") is (said == "")
    assert said in OFFICE.closed_because(at)


def test_around_funding_nothing_is_promoted() -> None:
    windows = PromotionWindows(funding_margin_min=15)
    for hour, minute, closed in (
        (7, 45, False),
        (7, 46, True),
        (8, 14, True),
        (8, 15, False),
        (23, 50, True),
        (0, 5, True),
    ):
        found = windows.closed_because(MONDAY.replace(hour=hour, minute=minute))
        assert ("funding is settled" in found) is closed, (hour, minute)


def test_the_next_opening_is_told_past_a_freeze_and_a_weekend() -> None:
    assert OFFICE.next_open(MONDAY) == MONDAY
    assert OFFICE.next_open(MONDAY.replace(hour=16)) == datetime(2026, 12, 3, 8, 30, tzinfo=UTC)
    assert OFFICE.next_open(datetime(2026, 12, 3, 20, 0, 30, tzinfo=UTC)) == datetime(2026, 12, 7, 8, 30, tzinfo=UTC)


def test_what_never_opens_has_no_date() -> None:
    shut = Closed(since=MONDAY, until=MONDAY + timedelta(days=365), why="for good")
    assert PromotionWindows(closed=(shut,)).next_open(MONDAY) is None


@settings(max_examples=25)
@given(st.integers(0, 31 * 86_400))
def test_whatever_the_next_opening_is_it_is_open(later_s: int) -> None:
    at = MONDAY + timedelta(seconds=later_s)
    opens = OFFICE.next_open(at)
    assert opens is not None
    assert opens >= at
    assert OFFICE.closed_because(opens) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"hours": "15:00-08:00"},
        {"hours": "8-15"},
        {"days": []},
        {"days": ["monday"]},
        {"funding_margin_min": -1},
        {"closed": [{"since": "2026-12-02", "until": "2026-12-01", "why": "backwards"}]},
    ],
)
def test_a_window_that_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PromotionWindows.model_validate(wrong)


@pytest.mark.parametrize(
    ("at", "earliest", "since"),
    [
        (MONDAY, MONDAY - timedelta(days=3), MONDAY.replace(hour=8, minute=30)),  # over a weekend
        (MONDAY, MONDAY - timedelta(minutes=5), MONDAY - timedelta(minutes=5)),
        (MONDAY.replace(hour=16), MONDAY - timedelta(days=3), None),
        (datetime(2026, 12, 3, 9, tzinfo=UTC), MONDAY, datetime(2026, 12, 3, 8, 30, tzinfo=UTC)),  # after the freeze
    ],
)
def test_since_when_it_is_open_is_the_last_opening(at: datetime, earliest: datetime, since: datetime | None) -> None:
    assert OFFICE.open_since(at, earliest) == since


def test_a_freeze_that_ends_within_a_minute_and_the_margin_of_funding_are_openings_too() -> None:
    until = MONDAY + timedelta(seconds=20)
    brief = Closed(since=MONDAY + timedelta(seconds=10), until=until, why="maintenance")
    windows = PromotionWindows(funding_margin_min=15, closed=(brief,))
    assert windows.open_since(MONDAY + timedelta(hours=1), MONDAY - timedelta(days=1)) == until
    assert windows.open_since(MONDAY, MONDAY - timedelta(days=1)) == MONDAY.replace(hour=8, minute=15)
    never = PromotionWindows()
    assert never.open_since(MONDAY, MONDAY - timedelta(days=3)) == MONDAY - timedelta(days=3)


@settings(max_examples=25)
@given(st.integers(0, 31 * 86_400))
def test_it_was_open_ever_since_and_closed_just_before(later_s: int) -> None:
    at, earliest = MONDAY + timedelta(seconds=later_s), MONDAY - timedelta(days=4)
    since = OFFICE.open_since(at, earliest)
    assert (since is None) is (OFFICE.closed_because(at) != "")
    if since is not None:
        assert OFFICE.closed_because(since - timedelta(microseconds=1)) != ""
        minutes = int((at - since).total_seconds() // 60)
        assert not any(OFFICE.closed_because(since + timedelta(minutes=one)) for one in range(minutes + 1))
