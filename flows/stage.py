"""The course of one stage as a loop over the step in the record. Each step's work is a task that may be repeated."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from sqlalchemy.exc import SQLAlchemyError

from flows.approvals import Approvals
from flows.shown import Board, cancel_asked
from gates.course import FINAL, Step
from gates.stages import Plan
from tasks.ask import GuardSilent, Refused, RefusedForNow, ask_guard
from tasks.record import Record
from tasks.record_engine import is_away
from tasks.record_tables import StageRun

LOOK_EVERY_S = 0.25
ASK_TRIES = 3
AWAY_AGAIN_S = 1.0
ASK_AGAIN_S = 1.0
ASK_AGAIN_MAX_S = 30.0
"""What is refused for now is asked again after this long, at first and at most."""
ASK_EXIT_EARLY_S = 10.0
"""Exit sign-offs are started this long before the watch ends: an approval takes some seconds until it can ask."""


class Course:
    """One stage run on its way, with what is shown of it and who is asked."""

    def __init__(self, record: Record, number: int, plan: Plan, link: str) -> None:
        self.record = record
        self.number = number
        self.board = Board(record, number)
        self.approvals = Approvals(record, number, plan, link)

    def run(self) -> StageRun:
        return self.record.stage_run(self.number)

    def step(self) -> Step:
        return Step(self.run().step)

    def pause(self) -> None:
        """Between two looks at the record. Whoever cancels the flow run in Prefect has said stop."""
        if cancel_asked():
            submit_stop(self.record, self.run())
        time.sleep(LOOK_EVERY_S)

    def ask(self, kind: str, at: Step) -> None:
        """Asks for the next step. Raises Refused where the stage still stands at `at`, and RefusedForNow."""
        key = (
            f"{kind}-{self.number}-{secrets.token_hex(4)}"  # new each time: what is missing may be there a moment later
        )
        answer = ask_guard(self.record, self.run().account, kind, {"stage_run_id": self.number}, key)
        if not answer.done and self.step() is at:
            raise (RefusedForNow if answer.for_now else Refused)(answer.reason)
        get_run_logger().info("%s: %s", kind, "done" if answer.done else answer.reason)


def take_through(course: Course) -> StageRun:
    """From wherever the stage stands to its end; returns the ended stage run. A record that is away is waited for."""
    told = ""
    while True:
        try:
            return _from_where_it_stands(course)
        except SQLAlchemyError as error:
            if not is_away(error):
                raise
            said = str(error).splitlines()[0]
            if said != told:
                get_run_logger().warning("the record is away, the guard goes on: %s", said)
            told = said
            time.sleep(AWAY_AGAIN_S)


def _from_where_it_stands(course: Course) -> StageRun:
    if course.step() in (Step.REQUESTED, Step.PREFLIGHT):
        course.approvals.start("entry")  # they get ready while preflight runs
    while (step := course.step()) not in FINAL:
        _WORK[step](course)
    course.approvals.end_all()
    course.board.show_end()
    return course.run()


@task(cache_policy=NO_CACHE, task_run_name="preflight")
def preflight(course: Course) -> None:
    """The guard works through the checklist by itself."""
    _follow(course, Step.REQUESTED, Step.PREFLIGHT)
    course.board.show_criteria(now=True)


@task(cache_policy=NO_CACHE, task_run_name="{gate} sign-off")
def sign_off(course: Course, gate: str, waiting_in: Step) -> None:
    """Asks everybody who may sign, and waits until enough have signed or the stage has left this gate."""
    course.board.show_evidence(gate)
    logger = get_run_logger()
    told: tuple[str, ...] | None = None
    asked = False
    while course.step() is waiting_in:
        asked = asked or course.approvals.start(gate)
        quorum = course.approvals.quorum(gate)
        if quorum.missing != told:
            told = quorum.missing
            logger.info("%s sign-off: missing %s", gate, ", ".join(told) or "nobody")
            course.board.show_sign_offs()
        if quorum.complete:
            return
        course.approvals.revive(gate)
        course.pause()


@task(retries=ASK_TRIES, retry_delay_seconds=2, cache_policy=NO_CACHE)
def launch(course: Course) -> None:
    """Asks the guard to launch, again where it refuses for now. It checks the sign-offs again itself."""
    _ask_until_done(course, "launch", Step.READY, RefusedForNow)


@task(cache_policy=NO_CACHE, task_run_name="watch")
def watch(course: Course) -> None:
    """Follows launch, warm-up, drills and watch, which the guard does by itself, and shows what it measures."""
    _follow(course, Step.LAUNCHING, Step.WARM_UP, Step.DRILLS)
    while (run := course.run()).step == Step.WATCH:
        course.board.show_criteria()
        if run.watch_until is not None and time.time() > run.watch_until.timestamp() - ASK_EXIT_EARLY_S:
            course.approvals.start("exit")
        course.pause()


@task(retries=ASK_TRIES, retry_delay_seconds=2, cache_policy=NO_CACHE)
def judge(course: Course) -> None:
    """Asks the guard for the verdict over the watch, again where it refuses for now."""
    _ask_until_done(course, "judge", Step.WATCHED, RefusedForNow)
    course.board.show_criteria(now=True)


@task(cache_policy=NO_CACHE)
def promote(course: Course) -> None:
    """Asks the guard to promote until it does or the stage ends, whatever it refuses for: people may put that right. It
    checks everything again itself, as of that moment."""
    _ask_until_done(course, "promote", Step.JUDGED, Refused)


def _ask_until_done(course: Course, kind: str, at: Step, again: type[Refused]) -> None:
    """Asks until the stage stands at `at` no more. Raises a refusal that is none of `again`.

    What the guard cannot see just now may be there a moment later. A step that nobody could ask for in time ends the
    stage by the guard's own clock, so this ends too.
    """
    told, wait_s = "", ASK_AGAIN_S
    while course.step() is at:
        try:
            course.ask(kind, at)
        except (again, GuardSilent) as refusal:
            if str(refusal) != told:
                get_run_logger().warning("%s refused for now: %s", kind, refusal)
            told = str(refusal)
            until = time.monotonic() + wait_s
            while course.step() is at and time.monotonic() < until:
                course.pause()
            wait_s = min(2 * wait_s, ASK_AGAIN_MAX_S)


@task(cache_policy=NO_CACHE, task_run_name="close flat")
def close(course: Course) -> None:
    """Follows the guard while it closes the stage with proof."""
    _follow(course, Step.PROMOTING)


@task(cache_policy=NO_CACHE, task_run_name="roll back")
def roll_back(course: Course) -> None:
    """Follows the guard while it rolls back; for as long as it takes."""
    course.approvals.end_all()
    _follow(course, Step.ROLLING_BACK, Step.ROLLBACK_FAILED)


def _follow(course: Course, *steps: Step) -> None:
    logger = get_run_logger()
    told: Step | None = None
    while (step := course.step()) in steps:
        if step is not told:
            told = step
            logger.info("%s", step.value.replace("_", " "))
        course.pause()


def _enter(course: Course) -> None:
    sign_off(course, "entry", Step.READY)
    if course.step() is Step.READY:
        launch(course)


def _leave(course: Course) -> None:
    sign_off(course, "exit", Step.JUDGED)
    if course.step() is Step.JUDGED:
        promote(course)


_WORK: dict[Step, Callable[[Course], None]] = {
    Step.REQUESTED: preflight,
    Step.PREFLIGHT: preflight,
    Step.READY: _enter,
    Step.LAUNCHING: watch,
    Step.WARM_UP: watch,
    Step.DRILLS: watch,
    Step.WATCH: watch,
    Step.WATCHED: judge,
    Step.JUDGED: _leave,
    Step.PROMOTING: close,
    Step.ROLLING_BACK: roll_back,
    Step.ROLLBACK_FAILED: roll_back,
}


def submit_stop(record: Record, run: StageRun) -> None:
    """Tells the guard to end the stage because its flow run was cancelled. Saying it twice changes nothing."""
    payload = {"stage_run_id": run.id, "who": "Prefect", "reason": "the flow run was cancelled"}
    record.submit(run.account, "stop", payload, f"stop-cancelled-{run.id}")
