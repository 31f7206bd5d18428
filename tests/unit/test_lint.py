"""The lint: every way in which a gate cannot do its work is refused, each in one line, and the shipped gates pass."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from gates import promql
from gates.__main__ import main
from gates.lint import criterion_faults, lint_file, lint_plan, stage_faults
from gates.sources import totals
from gates.stages import ROOT, load_plan
from tests.support.gate_parts import criterion
from tests.support.plans import REAL, SMOKE, content_of, written

CANARY = ROOT / "configs" / "criteria" / "canary.yaml"
BY = '{account="$account",rollout="$rollout",stage="$stage"}'


def test_the_shipped_criteria_and_plans_have_no_fault() -> None:
    assert lint_file(CANARY) == []
    assert [fault for plan in (SMOKE, REAL) for fault in lint_plan(plan)] == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (f"max(mm_book_age_ms{BY}) > 5", "compares (>) inside the query"),
        (f"max(mm_book_age_ms{BY}) == 5", "compares (==) inside the query"),
        (f"max(mm_book_age_ms{BY}) < bool 5", "compares (bool) inside the query"),
        (f"max(mm_book_age_ms{BY}) or vector(0)", "'vector' gives a value where there is no data"),
        (f"absent(mm_book_age_ms{BY})", "'absent' gives a value where there is no data"),
        (
            f"max(mm_book_age{BY})",
            "unknown metric 'mm_book_age'; allowed: the catalogue (did you mean mm_book_age_ms?)",
        ),
        ("max(mm_book_age_ms)", 'mm_book_age_ms is not selected by account="$account", rollout="$rollout"'),
        ('max(mm_book_age_ms{account="$account",stage="$stage"})', 'is not selected by rollout="$rollout"'),
        (BY.join(["max(mm_book_age_ms", ") - max(mm_net_bps)"]), "mm_net_bps is not selected by"),
        (f"max({BY})", "unknown metric ''"),
        (f"max(mm_book_age_ms{BY}) + $limit", "unknown variable $limit; allowed: $account"),
        ('max(mm_book_age_ms{account="$account",rollout="$rollout",stage="$stage",colour="red"})', "label 'colour'"),
        (
            'sum(mm_cancel_all_duration_seconds_bucket{account="$account",rollout="$rollout",stage="$stage",le="0.7"})',
            "le='0.7' of mm_cancel_all_duration_seconds_bucket is no edge",
        ),
        ("1 + 1", "reads no metric"),
    ],
)
def test_a_bad_query_is_refused(query: str, said: str) -> None:
    assert any(said in fault for _, fault in criterion_faults(criterion(query=query)))


@pytest.mark.parametrize(
    "query",
    [
        f"max(mm_book_age_ms{BY} * clamp_max(mm_active_orders{BY}, 1))",
        f"histogram_quantile(0.99, sum by (le) (rate(mm_order_latency_ms_bucket{BY}[$window])))",
        f"sum(mm_position_quote{BY}) by (symbol) / on (symbol) group_left sum(mm_pnl_quote{BY}) by (symbol)",
        f"max(up{BY} offset 5m) # > in a comment of ours would not be PromQL".split(" #", maxsplit=1)[0],
    ],
)
def test_a_good_query_is_not(query: str) -> None:
    assert list(criterion_faults(criterion(query=query))) == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("mm_taker_fill_total", "unknown total 'mm_taker_fill_total'"),
        ("mm_book_age_ms", "unknown total 'mm_book_age_ms'; allowed: a counter"),
        ("mm_taker_fills_total > 1", "'>' in a sum of totals"),
        ("mm_taker_fills_total mm_crossing_orders_total", "is no sum of totals"),
        ("mm_taker_fills_total + 1", "is no sum of totals"),
        ('mm_freeze_events_total{kind="x"}', "label 'kind' of mm_freeze_events_total; allowed: reason, class"),
        ('mm_freeze_events_total{reason=~"("}', "is no regular expression"),
        ("SELECT count(*) FROM dreams", "the journal's tables refuse it: no such table: dreams"),
        ("SELECT count(*), 1 FROM fills", "gives 2 columns; allowed: one number"),
    ],
)
def test_a_bad_table_query_is_refused(query: str, said: str) -> None:
    asked = criterion(source="table", query=query, unit="count", go="== 0", no_go=None)
    assert any(said in fault for _, fault in criterion_faults(asked))


def test_a_good_table_query_is_not_refused() -> None:
    for query in ("SELECT count(*) FROM fills WHERE is_maker = 0", 'mm_freeze_events_total{class!="planned"}'):
        asked = criterion(source="table", query=query, unit="count", go="== 0", no_go=None)
        assert list(criterion_faults(asked)) == []


def test_an_unknown_check_and_a_wrong_unit_are_refused() -> None:
    asked = criterion(source="check", query=None, check="moon_full", unit="flag", go="== 1", no_go=None)
    assert any("unknown check 'moon_full'; allowed: process_up" in said for _, said in criterion_faults(asked))
    asked = criterion(source="check", query=None, check="process_up", unit="count", go="== 1", no_go=None)
    assert any("count for check process_up; allowed: flag" in said for _, said in criterion_faults(asked))


def test_times_that_cannot_be_kept_are_refused() -> None:
    query = f"max(rate(mm_may_quote_seconds_total{BY}[$window]))"
    canary = load_plan(SMOKE).stage("canary")
    for changes, said in (
        ({"window_s": 61}, "window_s"),
        ({"for_s": 61}, "for_s"),
        ({"every_s": 61, "unknown_deadline_s": 61}, "every_s"),
        ({"unknown_deadline_s": 61}, "unknown_deadline_s"),
        ({"query": query.replace("$window", "2m")}, "query"),
    ):
        found = dict(stage_faults(criterion(**({"query": query} | changes)), canary))
        assert said in found, changes
    assert list(stage_faults(criterion(query=query, window_s=60), canary)) == []
    assert dict(criterion_faults(criterion(query=query, every_s=20)))["unknown_deadline_s"].startswith("10; allowed")
    assert "for_s" in dict(criterion_faults(criterion(query=query, for_s=2, phase="final")))
    assert "window_s" in dict(criterion_faults(criterion(query=f"max(up{BY})", window_s=5)))


def test_a_plan_is_linted_with_its_own_numbers_and_its_people(tmp_path: Path) -> None:
    content = content_of(SMOKE)
    content["stages"][2]["overrides"]["pnl_guard"] = {"for_s": 600}
    content["author"] = "katherine"
    faults = lint_plan(written(tmp_path / "plan.yaml", content))
    assert any("stage canary: pnl_guard.for_s: 600 s outlasts the stage" in fault for fault in faults)
    assert any("exit_sign_offs can never be complete" in fault and "Risk Manager" in fault for fault in faults)
    assert all("\n" not in fault for fault in faults)


def test_the_command_refuses_with_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(CANARY.parent, tmp_path / "criteria")
    path = tmp_path / "criteria" / "canary.yaml"
    text = CANARY.read_text(encoding="utf-8")
    path.write_text(text.replace("sum(mm_pnl_quote{", "sum(mm_profit{", 1), encoding="utf-8")
    assert main(["lint", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}:")
    assert "pnl_guard.query: unknown metric 'mm_profit'" in line
    path.write_text(text.replace('go: "> 10"', "colour: red", 1), encoding="utf-8")
    assert main(["lint", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unknown key 'colour'" in line
    assert main(["lint"]) == 2
    capsys.readouterr()
    assert main(["lint", str(CANARY)]) == 0
    shown = capsys.readouterr()
    assert "canary.yaml:" in shown.out
    assert "rebate_earned (> 0 quote): not yet measurable: a fee profile" in shown.out
    assert "every-stage.yaml:" in shown.out
    assert shown.err == ""


def test_a_drill_that_must_trip_what_is_not_measured_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        SMOKE.read_text().replace("trips: [held_or_frozen], window_s: 20}", "trips: [frozen], window_s: 99}")
    )
    faults = lint_plan(path)
    assert any("stage testnet, part smoke: drill freeze: trips 'frozen'" in fault for fault in faults)
    assert any("stage soak: drill freeze: window_s 99; allowed: at most the part's 45 s" in fault for fault in faults)


@pytest.mark.parametrize(
    ("drill", "trips", "said"),
    [
        ("restart", "[held_or_frozen]", "drill restart: breaks 'process_up', which would end the stage"),
        ("orphan", "[divergences]", "drill orphan: breaks 'recon_divergences', which would end the stage"),
        ("freeze", "[held_or_frozen], window_s: 9}, {name: freeze, trips: [divergences]", "freeze: stands 2 times"),
    ],
)
def test_a_drill_that_would_end_its_stage_or_stands_twice_is_refused(
    tmp_path: Path, drill: str, trips: str, said: str
) -> None:
    path = tmp_path / "plan.yaml"
    text, replaced = re.subn(rf"- \{{name: {drill}, trips: [^\n]*", f"XX{drill}", SMOKE.read_text(), count=1)
    assert replaced == 1
    declared = [f"- {{{one}}}" for one in f"name: {drill}, trips: {trips}, window_s: 9".split("}, {")]
    path.write_text(text.replace(f"XX{drill}", "\n          ".join(declared)))
    (fault,) = lint_plan(path)
    assert said in fault


def test_variables_are_replaced_and_label_values_cannot_break_out() -> None:
    selector = promql.Selector('a"b\\c', "r", "canary", since_s=0)
    found = promql.resolve(f"rate(mm_book_age_ms{BY}[$window])", selector, 1.5)
    assert found == 'rate(mm_book_age_ms{account="a\\"b\\\\c",rollout="r",stage="canary"}[1500ms])'
    assert promql.Selector("a", "r", "s", since_s=90).window_s(at_s=100, window_s=60) == 10
    assert promql.Selector("a", "r", "s", since_s=90).window_s(at_s=100, window_s=None) == 10


def test_a_sum_of_totals_without_a_total_has_no_value() -> None:
    terms = totals.parse('mm_taker_fills_total + mm_freeze_events_total{class="fault",reason!="grant_expired"}')
    held = {
        ("mm_taker_fills_total", "symbol=A"): 1,
        ("mm_taker_fills_total", "symbol=B"): 2,
        ("mm_freeze_events_total", "reason=drawdown,class=fault"): 4,
        ("mm_freeze_events_total", "reason=grant_expired,class=fault"): 8,
        ("mm_freeze_events_total", "reason=stale_book,class=market"): 16,
    }
    assert totals.evaluate(terms, held) == 7
    assert totals.evaluate(terms, {key: value for key, value in held.items() if "fills" in key[0]}) is None
