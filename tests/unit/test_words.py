"""What people read: limits, tables, forms, the end in one sentence, the demo's lines."""

from __future__ import annotations

import io

from flows.demo_view import WIDTH, View
from flows.status import _against
from flows.words import approval_question, end_sentence, markdown_table, needs, step_rows
from tasks.preflight import CHECKS
from tasks.record_tables import MeasurementLatest, RollbackStep, StageRun


def measured(criterion: str, outcome: str, value: str | None, phase: str = "final") -> MeasurementLatest:
    return MeasurementLatest(
        stage_run_id=1,
        criterion_id=criterion,
        phase=phase,
        at_ms=0,
        outcome=outcome,
        cause=None if value is not None else "no data",
        value=value,
        limit="go < 1, no-go > 2",
        unit="bps",
    )


def stage_run(step: str, **fields: str) -> StageRun:
    made = StageRun(rollout="r", account="a", stage="canary", attempt=1, step=step, candidate="c" * 64, plan_path="p")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_limit_says_what_would_pass() -> None:
    assert needs("go < 1, no-go > 2") == "< 1"
    assert needs("go == 0") == "== 0"
    assert needs("at most the plan's") == "at most the plan's"


def test_explain_names_the_value_and_what_it_needs() -> None:
    assert _against(measured("net", "FAIL", "1.7")) == "net is 1.7 bps (needs < 1)"
    assert _against(measured("net", "UNKNOWN", None)) == "net is unknown (no data) (needs < 1)"


def test_a_bar_in_a_cell_does_not_break_the_table() -> None:
    assert markdown_table([{"a": "x|y"}]).splitlines()[-1] == "| x\\|y |"
    assert markdown_table([]) == ""


def test_a_refused_form_says_why_first_and_shows_what_did_not_pass_first() -> None:
    rows = [measured("good", "PASS", "0"), measured("bad", "FAIL", "3"), measured("disk", "PASS", "9", "preflight")]
    text = approval_question(stage_run("judged"), "exit", rows, "http://x", "", "wrong code (4 tries left)")
    assert text.startswith("**Your last answer was refused: wrong code (4 tries left).**")
    assert "**1 of 2** criteria PASS" in text
    assert text.index("| bad |") < text.index("| good |")
    assert "disk" not in text


def test_the_digest_that_is_to_be_given_does_not_stand_in_the_form() -> None:
    run = stage_run("ready", entry_digest="abcdef" + "0" * 58)
    assert "abcdef" not in approval_question(run, "entry", [], "http://x", "", "")


def test_the_end_is_told_in_one_sentence_with_the_number_once() -> None:
    run = stage_run(
        "rolled_back",
        reason="candidate",
        decided_criterion="net",
        decided_value="1.7",
        decided_limit="go < 1",
        decided_why="1.7 bps; go < 1",
    )
    assert end_sentence(run) == "Reason: candidate. Decided by net: 1.7 (needs < 1)."
    run.decided_value, run.decided_why = None, "pid 7 died"
    assert end_sentence(run) == "Reason: candidate. Decided by net: no value (needs < 1). pid 7 died"


def test_no_line_of_the_demo_is_wider_than_a_terminal() -> None:
    stream = io.StringIO()
    view = View(stream)
    view.line("word " * 60, "subject")
    for outcome in ("PASS", "INCONCLUSIVE"):
        view.raw(
            f"  {view.criterion_row(measured('a_criterion_with_a_very_long_name', outcome, '0.12345678901234567'))}"
        )
    for name, _, limit, _ in CHECKS:
        row = measured(name, "FAIL", "one value that is far too long for its column", "preflight")
        row.limit = limit
        view.raw(f"  {view.criterion_row(row)}")
    assert max(len(line) for line in stream.getvalue().splitlines()) <= WIDTH


TOLD = {
    "revoke_grant": {"how": "the bot answered 200", "epoch": 7, "state": "FROZEN"},
    "stop_bot": {"pid": 41, "started_ticks": 903, "by": "asked", "took_ms": 312, "others_on_state_dir": []},
    "bundle": {"folder": "/evidence/" + "a_long_name/" * 12, "digest": "ab" * 32, "files": 9},
}


def test_the_steps_of_a_closing_are_told_in_words_to_the_last_and_in_eighty_columns() -> None:
    rows = [
        RollbackStep(stage_run_id=1, number=number, name=name, state="verified", proof=proof)
        for number, (name, proof) in enumerate(TOLD.items())
    ]
    stream = io.StringIO()
    View(stream).steps_table(rows)
    shown = stream.getvalue()
    assert max(len(line) for line in shown.splitlines()) <= WIDTH
    together = "".join(shown.split())
    for row in step_rows(rows):
        assert "{" not in row["proof (times in UTC)"]
        assert "".join(row["proof (times in UTC)"].split()) in together, "nothing is cut off"
    assert "pid 41 (started at tick 903) ended when asked" in markdown_table(step_rows(rows))
