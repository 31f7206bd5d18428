"""The architecture page is what the tables in the code say today, and each of their rows is in it."""

from __future__ import annotations

import re

from bot.domain.order import TERMINAL, TRANSITIONS, OrderState
from bot.engine.stop import STOPS
from gates.course import COURSE, Happening
from tasks.rollback import STEPS
from tests.report.architecture import PAGE, page

ARROW = re.compile(r"^    (\w+) --> (\w+): (.+)$", re.MULTILINE)


def drawn() -> set[tuple[str, str, str]]:
    """(from, told, to) of every arrow."""
    return {
        (before, told, after)
        for before, after, label in ARROW.findall(page())
        for told in re.split(r",(?:<br/>| )", label)
    }


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.report.architecture writes it anew"


def test_every_row_that_changes_a_state_is_an_arrow_and_no_arrow_is_made_up() -> None:
    orders = {
        (before.value, told.value, after.value) for (before, told), after in TRANSITIONS.items() if before != after
    }
    steps = {
        (before.value, told.value, after.value)
        for (before, told), after in COURSE.items()
        if before is not after and told is not Happening.STOPPED
    }
    views = {arrow for arrow in drawn() if arrow[0].isupper()}
    assert drawn() - views == orders | steps


def test_stops_and_steps_of_a_rollback_are_all_named_and_ended_orders_are_marked() -> None:
    text = page()
    assert [name for name in STOPS if f"| `{name}` |" not in text] == []
    assert [name for name in STEPS if name not in text] == []
    ends = {state for state in OrderState if f"    {state.value} --> [*]" in text}
    assert ends == TERMINAL
