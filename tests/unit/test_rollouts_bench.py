"""What the bench of many rollouts calls good, and what it writes down: the worst start, and memory beside CPU."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.rollouts import report, table


def row(count: int, **changes: Any) -> dict[str, Any]:
    told = {"rollouts": count, "promoted": count, "guard_start_s": 1.1, "guard_start_s_max": 1.2 * count}
    told |= {"guard_start_cpu_s": 1.0, "guard_start_cpu_s_max": 1.3, "guard_cpu_percent": 2.0, "guard_rss_mb": 90.0}
    return told | changes


def test_all_within_their_limits_is_good_however_long_a_start_waits_for_its_turn() -> None:
    assert report([row(1), row(20)], 40.0, "sqlite", as_json=False) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"promoted": 19},
        {"guard_start_cpu_s_max": 2.0},
        {"guard_cpu_percent": 3.1},
        {"guard_cpu_percent": None},
        {"guard_rss_mb": 100.0},
    ],
)
def test_one_that_is_not_is_bad(changes: dict[str, Any]) -> None:
    assert report([row(1), row(20, **changes)], 40.0, "sqlite", as_json=True) == 1


def test_for_people_a_figure_past_its_limit_is_told_and_a_rollout_that_is_not_promoted_is_bad(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report([row(1), row(20, guard_rss_mb=100.0)], 40.0, "sqlite", as_json=False) == 0
    assert "and takes 100.0 MB  < 100 MB  NOT met\n" in capsys.readouterr().out
    assert report([row(1), row(20, promoted=19)], 40.0, "sqlite", as_json=False) == 1


def test_memory_that_grows_with_the_number_is_not_linear() -> None:
    assert report([row(1, guard_rss_mb=40.0), row(20)], None, "sqlite", as_json=True) == 1
    assert report([row(1), row(20)], 50.0, "sqlite", as_json=True) == 1


def test_the_page_tells_median_and_greatest_and_both_ratios() -> None:
    page = table([row(1), row(2)], None, "sqlite")
    assert "| 2 | 2 | 1.10, 2.40 | 1.00, 1.30 | 2.00 % | 90.0 MB |" in page
    assert "CPU of one among the most, of one among the least: 1.00" in page
    assert "Memory of one among the most, of one among the least: 1.00" in page
