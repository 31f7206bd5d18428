"""`rollout demo`: the whole rollout, or one stage, on the simulated venue, with a fault if wished, told meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from flows.demo_approvers import DemoApprovers
from flows.demo_faults import ENDED_BY, begin_plan, clear, end_plan, inject
from flows.demo_view import View
from flows.names import EXIT_OF_STEP, FULL, MARKET
from flows.stack import from_another_shell, up
from flows.stage_table import stages_of
from flows.status import stage_entry
from flows.words import end_sentence
from gates.stages import Plan, each_part
from tasks.record import FINAL_STEPS, Record, open_record
from tasks.record_tables import StageRun
from tasks.simulated_account import VenueUnreachable
from tasks.state_folder import StateFolder
from tasks.supervise.client import take_down
from tasks.supervise.table import Table

LOOK_EVERY_S = 0.25
FAULT_AFTER_S = 5.0
BEGIN_DEADLINE_S = 120.0
BUSY_DEADLINE_S = 60.0
SIGNED_BY_DEMO_S = 600.0
"""On top of a part's own time: how long it may take where no person is waited for. Ample: a busy machine is slow."""
FLOW_ENDED = ("FAILED", "CRASHED", "CANCELLED", "COMPLETED")


class DemoFailed(Exception):
    """The run could not be followed to its end; one line for people. A bundle is saved."""


@dataclass(frozen=True)
class Wish:
    """What was asked for on the command line. `stage`: one, or full. `fault` happens in `fault_stage`. `signs_me`: the
    person signs in the UI, not the demo's approvers."""

    plan: Plan
    plan_file: Path
    market: str
    stage: str
    fault: str | None
    fault_stage: str
    signs_me: bool
    as_json: bool
    faults: Path | None = None
    """A plan of faults that the venue goes through once a bot is watched: before, each would keep it from starting."""

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages to go through, in order."""
        return tuple(one.id for one in self.plan.stages) if self.stage == FULL else (self.stage,)


class Demo:
    """One run. `run` returns the exit code of its verdict."""

    def __init__(self, folder: StateFolder, wish: Wish, view: View) -> None:
        self.folder = folder
        self.wish = wish
        self.view = view
        self.rollout = f"{wish.stage}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        self._begun_s = time.monotonic()
        self._injected = self._planned = False

    def run(self) -> int:
        wish = self.wish
        if wish.market != MARKET:  # from its beginning, so that a repeated run sees the same market
            take_down(self.folder, "rollout demo", "the record is played from its beginning", self._say_stack)
        table = up(self.folder, wish.plan_file, wish.market, self._say_stack)
        record = open_record(self.folder.record_url)
        try:
            flow_run_id = self._trigger(table)
            ended = self._through(record, table, flow_run_id)
            return self._tell_end(record, table, ended, flow_run_id)
        finally:
            record.close()
            if wish.faults is not None:
                end_plan(self.folder, table.endpoints["venue_rest_url"])

    def _plan_faults_when_due(self, table: Table, run: StageRun) -> None:
        if self.wish.faults is not None and not self._planned and run.step == "watch":
            self._planned = True
            name = begin_plan(self.folder, table.endpoints["venue_rest_url"], self.wish.faults)
            self.view.line(f"plan of faults {name}: from now on, at the venue and on the way to it", "fault")

    def _through(self, record: Record, table: Table, flow_run_id: str) -> StageRun:
        """Every stage to its end; the last one, or the one that was not promoted."""
        for stage in self.wish.stages:
            run = self._await_stage_run(record, table, flow_run_id, stage)
            ended = self._follow(record, table, run, flow_run_id)
            if ended.step != "promoted":
                break
        return ended

    def _say_stack(self, text: str) -> None:
        self.view.line(text, "stack")

    # ---- start ----------------------------------------------------------------------------------------------------

    def _trigger(self, table: Table) -> str:
        api_url, view = table.endpoints["prefect_api"], self.view
        stage = self.wish.stage
        parameters = {"stage": stage, "plan": str(self.wish.plan_file), "rollout": self.rollout, "account": None}
        asked = {"parameters": parameters, "idempotency_key": self.rollout}  # asked twice, it runs once
        with httpx.Client(base_url=api_url, timeout=10.0, trust_env=False) as client:
            deployment = _patiently(lambda: client.get(f"/deployments/name/rollout/{stage}"))["id"]
            url = f"/deployments/{deployment}/create_flow_run"
            flow_run_id = str(_patiently(lambda: client.post(url, json=asked))["id"])
        view.line(f"rollout/{stage}: rollout {self.rollout}, plan {self.wish.plan.name}", "demo")
        waived = [one for one in self.wish.plan.before(stage) if self.wish.plan.stage(stage).waive_predecessor]
        if waived:
            view.line(f"the plan waives the stages before ({', '.join(waived)}): people sign before the launch", "demo")
        view.line(f"follow it in the browser: {_page(table, flow_run_id)}", "demo")
        view.line("the same from another shell:", "demo")
        view.raw(f"  {from_another_shell(self.folder, table, stage, self.wish.plan_file)}")
        return flow_run_id

    def _await_stage_run(self, record: Record, table: Table, flow_run_id: str, stage: str) -> StageRun:
        end = time.monotonic() + BEGIN_DEADLINE_S
        while time.monotonic() < end:
            runs = [run for run in record.stage_runs(rollout=self.rollout) if run.stage == stage]
            if runs:
                return runs[-1]
            state, message = _flow_state(table, flow_run_id)
            if state in FLOW_ENDED:
                raise DemoFailed(f"the flow ended before stage {stage} began: {message or state}")
            time.sleep(LOOK_EVERY_S)
        raise DemoFailed(f"the flow did not begin stage {stage} within {BEGIN_DEADLINE_S:.0f} s")

    # ---- watch ----------------------------------------------------------------------------------------------------

    def _follow(self, record: Record, table: Table, run: StageRun, flow_run_id: str) -> StageRun:
        number, deadline_s = run.id or 0, self._deadline_s(run.stage)
        approvers = None
        if self.wish.signs_me:
            self._ask_person(table)
        else:
            approvers = DemoApprovers(
                self.folder,
                record,
                table.endpoints["prefect_api"],
                number,
                lambda text: self.view.line(text, "sign-off"),
            )
            approvers.start()
        try:
            end = time.monotonic() + deadline_s
            while time.monotonic() < end:
                run = record.stage_run(number)
                self.view.follow(record, run)
                if run.step in FINAL_STEPS:
                    return run
                self._plan_faults_when_due(table, run)
                self._inject_when_due(table, run)
                self._check_flow(table, flow_run_id, run)
                time.sleep(LOOK_EVERY_S)
        finally:
            if approvers is not None:
                approvers.stop()
            self._clear(table)
        raise DemoFailed(f"{self.rollout}/{run.stage} did not end within {deadline_s:.0f} s; it is at {run.step}")

    def _deadline_s(self, stage_id: str) -> float:
        """Of one stage: its parts with their drills, each prolonged once, and people at each end."""
        stage = self.wish.plan.stage(stage_id)
        waits_s = 2 * float(stage.sign_off_expiry_s) if self.wish.signs_me else SIGNED_BY_DEMO_S
        parts = each_part(stage)
        drilled_s = sum(one.window_s for part in parts for one in part.drills)
        watched_s = sum(part.lasts_s for part in parts) * (1 + float(stage.prolong_share))
        return watched_s + drilled_s + waits_s * len(parts)

    def _ask_person(self, table: Table) -> None:
        view = self.view
        view.line("you sign: in the Prefect UI open each run named 'entry sign-off by …', menu ⋮, Resume", "sign-off")
        view.line(f"{table.endpoints['prefect_ui']}/runs", "sign-off")
        view.line("a demo approver's code: rollout code NAME (30 s each, serves once)", "sign-off")
        view.line("the evidence's digest: on the stage's run, under Artifacts", "sign-off")

    def _inject_when_due(self, table: Table, run: StageRun) -> None:
        if self._injected or self.wish.fault is None or run.stage != self.wish.fault_stage:
            return
        if run.step != "watch" or run.watch_from is None:
            return
        if time.time() - run.watch_from.timestamp() < FAULT_AFTER_S:
            return
        self._injected = True
        self.view.line(f"{self.wish.fault}: {inject(self.wish.fault, self.folder, table, run)}", "FAULT")

    def _check_flow(self, table: Table, flow_run_id: str, run: StageRun) -> None:
        """A flow that died is no danger (the guard goes on), but nobody would promote: the demo has failed."""
        if run.step in ("rolling_back", "rollback_failed"):
            return
        state, message = _flow_state(table, flow_run_id)
        if state in FLOW_ENDED:
            raise DemoFailed(f"the flow ended while the stage is at {run.step}: {message or state}")

    def _clear(self, table: Table) -> None:
        if self._injected and self.wish.fault in ENDED_BY:
            try:
                clear(self.folder, table, self.wish.fault)
            except VenueUnreachable as error:
                self.view.line(str(error), "venue")

    # ---- end ------------------------------------------------------------------------------------------------------

    def _tell_end(self, record: Record, table: Table, run: StageRun, flow_run_id: str) -> int:
        view = self.view
        if self.wish.stage != FULL or run.step != "promoted":
            view.criteria_table(record, run)
            view.timeline(record, run)
        if run.decided_others:
            view.raw(f"Also broken: {', '.join(str(one) for one in run.decided_others)}")
        if self.wish.stage == FULL:
            view.stages_table(record, self.rollout)
        view.raw("")
        view.raw(f"Evidence  {run.evidence_dir or 'none'}")
        view.raw(f"Prefect   {_page(table, flow_run_id)}")
        view.raw("The stack stays up; `make down` (or `rollout down`) stops it.")
        took_s = time.monotonic() - self._begun_s
        if self.wish.as_json:
            entry = {**stage_entry(record, run), "stages": stages_of(record, self.rollout)}
            document: dict[str, Any] = {"rollouts": [entry], "endpoints": dict(table.endpoints)}
            print(json.dumps({**document, "took_s": round(took_s, 1)}, indent=2), flush=True)
        else:
            view.raw(f"{view.ended(record, run)} after {took_s:.0f} s: {run.rollout}. {self._end_words(run)}")
        return EXIT_OF_STEP[run.step]

    def _end_words(self, run: StageRun) -> str:
        """Why it ended; of a whole rollout that passed, the size it has reached."""
        if self.wish.stage != FULL or run.step != "promoted":
            return f"Stage {run.stage}. {end_sentence(run)}" if self.wish.stage == FULL else end_sentence(run)
        stage = self.wish.plan.stages[-1]
        size = stage.at(stage.part_count - 1)
        reached = f"{size.inventory_max_quote:f} per symbol and {size.total_max_quote:f} in all"
        passed = f"All {len(self.wish.stages)} stages passed"
        return f"{passed}; the plan's size is reached: {reached} on {', '.join(size.symbols)}."


def _page(table: Table, flow_run_id: str) -> str:
    return f"{table.endpoints['prefect_ui']}/runs/flow-run/{flow_run_id}"


def _patiently(ask: Callable[[], httpx.Response]) -> dict[str, Any]:
    """The answer of Prefect's server; asked again where it is too busy to answer (503, or no answer in time)."""
    end = time.monotonic() + BUSY_DEADLINE_S
    while True:
        try:
            answer = ask()
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() >= end:
                found: dict[str, Any] = answer.raise_for_status().json()
                return found
        except httpx.TransportError:
            if time.monotonic() >= end:
                raise
        time.sleep(LOOK_EVERY_S)


def _flow_state(table: Table, flow_run_id: str) -> tuple[str, str]:
    """Type and message of the flow run's state; both empty where the server does not answer."""
    try:
        url = f"{table.endpoints['prefect_api']}/flow_runs/{flow_run_id}"
        state = httpx.get(url, timeout=2.0, trust_env=False).json().get("state") or {}
    except (httpx.HTTPError, ValueError):
        return "", ""
    return str(state.get("type", "")), str(state.get("message") or "")
