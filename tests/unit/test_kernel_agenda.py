"""The kernel lane's agenda: soonest first, equal times in the order of setting, whatever line a happening is put in."""

from __future__ import annotations

import random
from heapq import heappop, heappush

import pytest

from bot.simulator.kernel_agenda import Agenda, Due, Line
from bot.simulator.kernel_reads import Newest

AT_ONCE = 1 << 60


@pytest.mark.parametrize("seed", range(20))
def test_what_happens_next_is_what_a_heap_of_times_and_numbers_says(seed: int) -> None:
    draw = random.Random(seed)
    agenda, heap, now_ns, number = Agenda(), list[tuple[int, int, Due]](), 0, 0
    lines = {delay_ns: Line() for delay_ns in (3, 4, 5)}
    for _ in range(2_000):
        for _ in range(draw.choice((0, 1, 1, 2, 3)) if len(heap) < 60 else 0):
            number += 1
            due, delay_ns = Due(), draw.choice((0, 1, 3, 4, 5, 5, 40))
            if delay_ns == 0:
                agenda.put_at_once(due, now_ns)
                heappush(heap, (now_ns, number - AT_ONCE, due))
            elif delay_ns in lines:
                agenda.put_in_line(lines[delay_ns], due, now_ns + delay_ns)
                heappush(heap, (now_ns + delay_ns, number, due))
            else:
                agenda.put(due, now_ns + delay_ns)
                heappush(heap, (now_ns + delay_ns, number, due))
        if heap:
            now_ns, _, expected = heappop(heap)
            found = agenda.pop()
            assert found is expected
            assert found.when_ns == now_ns
    while heap:
        assert agenda.pop() is heappop(heap)[2]
    with pytest.raises(IndexError):
        agenda.pop()


def test_a_happening_that_was_put_into_another_line_leads_nobody_astray() -> None:
    agenda, leaving, answers = Agenda(), Line(), Line()
    request, other, between = Due(), Due(), Due()
    agenda.put_in_line(leaving, request, 4)
    assert agenda.pop() is request
    agenda.put_in_line(answers, request, 9)  # the newest of both lines
    agenda.put_in_line(leaving, other, 8)
    agenda.put(between, 8)
    assert [agenda.pop() for _ in range(3)] == [other, between, request]


def test_what_is_put_at_once_comes_before_what_was_due_then_anyway() -> None:
    agenda, due, first, second = Agenda(), Due(), Due(), Due()
    agenda.put(due, 5)
    agenda.put_at_once(first, 5)
    agenda.put_at_once(second, 5)
    assert [agenda.pop() for _ in range(3)] == [first, second, due]


def test_what_was_put_at_once_before_and_is_due_later_now_keeps_nothing_back() -> None:
    agenda, again, other = Agenda(), Due(), Due()
    agenda.put_at_once(again, 1)
    assert agenda.pop() is again
    agenda.put_in_line(Line(), again, 9)
    agenda.put_at_once(other, 2)
    assert [agenda.pop() for _ in range(2)] == [other, again]


def test_only_the_newest_names_are_known() -> None:
    names = Newest(3)
    assert [names.add(name) for name in "abcadb"] == [True, True, True, False, True, False]
    assert [name in names for name in "abcd"] == [False, True, True, True]
    assert names.add("a")
    assert "b" not in names
