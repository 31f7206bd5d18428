"""What a bot noted of its result stands for the moments around it, and never for a moment that nobody noted."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tasks.guard.noted import noted_at
from tasks.guard.results import KEPT_WITHIN_MS

S = 1000
AT_MS = 1_000 * S


def test_between_two_notes_the_higher_counts_because_the_loss_since_then_is_the_greater() -> None:
    rising = [(AT_MS - 30 * S, Decimal(-5)), (AT_MS + 30 * S, Decimal(7))]
    falling = [(AT_MS - 30 * S, Decimal(7)), (AT_MS + 30 * S, Decimal(-5))]
    assert noted_at(rising, AT_MS, KEPT_WITHIN_MS) == noted_at(falling, AT_MS, KEPT_WITHIN_MS) == 7


def test_only_the_nearest_note_on_either_side_speaks() -> None:
    notes = [
        (AT_MS - 60 * S, Decimal(900)),
        (AT_MS - S, Decimal(1)),
        (AT_MS + S, Decimal(2)),
        (AT_MS + 2 * S, Decimal(800)),
    ]
    assert noted_at(notes, AT_MS, KEPT_WITHIN_MS) == 2
    assert noted_at(notes, AT_MS - S, KEPT_WITHIN_MS) == 2, "a note of that very moment is the one before"
    assert noted_at(notes, AT_MS + 3 * S, KEPT_WITHIN_MS) == 800, "the last of all has none after it"


def test_where_the_bot_noted_nothing_shortly_before_nothing_is_known() -> None:
    after = [(AT_MS + S, Decimal(3))]
    assert noted_at([], AT_MS, KEPT_WITHIN_MS) is None
    assert noted_at(after, AT_MS, KEPT_WITHIN_MS) is None, "what it came to later was not what it had come to"
    assert noted_at([(AT_MS - KEPT_WITHIN_MS - 1, Decimal(3)), *after], AT_MS, KEPT_WITHIN_MS) is None
    assert noted_at([(AT_MS - KEPT_WITHIN_MS, Decimal(3))], AT_MS, KEPT_WITHIN_MS) == 3


NOTES = st.lists(st.tuples(st.integers(0, 600 * S), st.decimals(-500, 500, places=2)), max_size=12)


@given(NOTES, st.integers(0, 600 * S))
def test_it_is_one_of_what_was_noted_and_never_below_the_newest_before(
    notes: list[tuple[int, Decimal]], at_ms: int
) -> None:
    notes = sorted(notes, key=lambda one: one[0])
    before = [net for noted_ms, net in notes if at_ms - KEPT_WITHIN_MS <= noted_ms <= at_ms]
    found = noted_at(notes, at_ms, KEPT_WITHIN_MS)
    assert (found is None) == (not before)
    if found is not None:
        assert found in [net for _, net in notes]
        assert found >= before[-1]
