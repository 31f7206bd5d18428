"""Which refusals are recorded: each reason once an hour, a burst at once, then one in half a minute."""

from __future__ import annotations

from tasks.guard.refusals import AGAIN_S, BURST, EVERY_S, WHY_LETTERS_MAX, Refusals


def tell(refusals: Refusals, why: str, now_s: float) -> dict[str, object] | None:
    link = refusals.link("begin", why, now_s)
    if link is not None:
        refusals.told("begin", why, now_s)
    return link


def test_the_same_reason_is_told_again_after_an_hour_with_how_many_were_left_out() -> None:
    refusals = Refusals()
    assert tell(refusals, "no", 5.0) == {"kind": "begin", "why": "no"}
    assert tell(refusals, "no", 5.0 + AGAIN_S - 1) is None
    assert tell(refusals, "no", 5.0 + AGAIN_S) == {"kind": "begin", "why": "no", "left_out_before": 1}


def test_a_link_that_was_not_written_is_told_the_next_time() -> None:
    refusals = Refusals()
    assert refusals.link("begin", "no", 5.0) == refusals.link("begin", "no", 6.0)


def test_a_flood_of_reasons_is_told_as_one_in_half_a_minute() -> None:
    refusals = Refusals()
    told = [tell(refusals, str(number), number * 0.01) for number in range(10_000)]
    assert sum(link is not None for link in told) == BURST + int(9_999 * 0.01 / EVERY_S)
    assert len(refusals._told_s) < 100


def test_a_reason_of_any_length_is_cut() -> None:
    link = Refusals().link("begin", "x" * 10_000, 0.0)
    assert link is not None
    assert len(link["why"]) == WHY_LETTERS_MAX
