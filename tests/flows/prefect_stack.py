"""The whole embedded stack in a folder of its own, and the calls a person or a script would make of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tasks.record import Record, open_record
from tasks.record_tables import StageRun
from tasks.sign_off import STEP_S, current_code
from tasks.simulated_account import venue_truth
from tasks.state_folder import StateFolder
from tasks.supervise.identity import Identity, identify
from tasks.supervise.table import Table, read_table
from tests.support.bot_rig import PATIENCE
from tests.support.slack_receiver import Receiver

PLAN = Path(__file__).parents[1] / "support" / "plan.yaml"
FINAL = ("promoted", "rolled_back", "parked")
T = TypeVar("T")


class PrefectStack:
    """`rollout up` with the short plan, or another; `close` is `rollout down`. `receiver`: where its notices go."""

    def __init__(self, home: Path, receiver: Receiver, plan: Path = PLAN) -> None:
        self.folder = StateFolder(home)
        self.receiver = receiver
        self.plan = plan
        self.environment = {**os.environ, "SLIPWAY_HOME": str(home), "SLIPWAY_SLACK_WEBHOOK": receiver.url}
        self.environment.pop("SLIPWAY_RECORD_URL", None)
        self._spent: dict[str, set[int]] = {}

    def open(self) -> None:
        done = self.rollout("up", "--plan", str(self.plan))
        assert done.returncode == 0, done.stdout + done.stderr
        self.record: Record = open_record(self.folder.record_url)
        self.api = httpx.Client(base_url=self.table().endpoints["prefect_api"], timeout=60, trust_env=False)

    def close(self) -> subprocess.CompletedProcess[str]:
        self.api.close()
        self.record.close()
        return self.rollout("down")

    def rollout(self, *words: str, within_s: float = 180 * PATIENCE) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows", *words]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=within_s, check=False
        )

    def table(self) -> Table:
        table = read_table(self.folder.table)
        assert table is not None
        return table

    def process(self, name: str) -> Identity:
        row = self.table().row(name)
        assert row is not None
        return row.identity

    # ---- Prefect --------------------------------------------------------------------------------------------------

    def run_deployment(self, stage: str = "canary", rollout: str | None = None, plan: Path | None = None) -> str:
        """What `prefect deployment run` does; returns the flow run's id."""
        more = {} if plan is None else {"plan": str(plan)}
        return self._run(f"rollout/{stage}", {"stage": stage, "rollout": rollout, **more})

    def run_drill(self, name: str, rollout: str) -> str:
        """The same with `drill/NAME`, on the stage of that rollout which is being watched."""
        return self._run(f"drill/{name}", {"name": name, "rollout": rollout})

    def _run(self, deployment: str, parameters: dict[str, Any]) -> str:
        number = self.api.get(f"/deployments/name/{deployment}").raise_for_status().json()["id"]
        body = {"parameters": parameters}
        return str(self.api.post(f"/deployments/{number}/create_flow_run", json=body).raise_for_status().json()["id"])

    def flow_run(self, flow_run_id: str) -> dict[str, Any]:
        run = self.api.get(f"/flow_runs/{flow_run_id}").raise_for_status().json()
        assert isinstance(run, dict)
        return run

    def until_ended(self, flow_run_id: str, within_s: float = 60) -> dict[str, Any]:
        """The final state of the flow run."""
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

        def look() -> dict[str, Any] | None:
            state = self.flow_run(flow_run_id)["state"]
            return dict(state) if state["type"] in final else None

        return self.until("the flow ends", look, within_s)

    def approval(self, number: int, gate: str, person: str, *, not_state: str = "") -> dict[str, Any]:
        """The approval of that person, once it waits for its form (in another state than `not_state`)."""
        found = lambda: self.find_approval(number, gate, person, not_state=not_state)  # noqa: E731
        return self.until(f"{person} is asked to sign ({gate})", found, 90)

    def find_approval(self, number: int, gate: str, person: str, *, not_state: str = "") -> dict[str, Any] | None:
        """The approval of that person that waits for its form now; None where none does."""
        query = {"flows": {"name": {"any_": ["approval"]}}, "limit": 100, "sort": "START_TIME_DESC"}
        for run in self.api.post("/flow_runs/filter", json=query).raise_for_status().json():
            wanted = {"stage_run_id": number, "gate": gate, "person": person}
            if wanted.items() <= run["parameters"].items() and run["state_type"] == "PAUSED":
                return run if run["state"]["id"] != not_state and self.question(run) else None
        return None

    def question(self, run: dict[str, Any]) -> str | None:
        """The text above the form that the run waits for; None while it is not stored yet."""
        keys = run["state"]["state_details"].get("run_input_keyset") or {}
        answer = self.api.get(f"/flow_runs/{run['id']}/input/{keys.get('description')}")
        return str(answer.json()) if answer.status_code == 200 else None

    def send(self, run: dict[str, Any], **form: str) -> str:
        """Sends the form as the UI does; returns ACCEPT, REJECT or ABORT."""

        def post() -> str | None:
            answer = self.api.post(f"/flow_runs/{run['id']}/resume", json={"run_input": {"comment": "", **form}})
            return None if answer.status_code == 503 else str(answer.json()["status"])  # 503: its SQLite was busy

        return self.until("the form is taken", post, 15)

    def sign(self, number: int, gate: str, person: str) -> str:
        """Signs GO with a right, fresh code by the form; returns the code."""
        run = self.approval(number, gate, person)
        code = self.fresh_code(person)
        form = {"reviewer": person, "decision": "GO", "one_time_code": code, "evidence": self.prefix(number, gate)}
        assert self.send(run, **form) == "ACCEPT"
        return code

    # ---- the rollout ----------------------------------------------------------------------------------------------

    def stage_run(self, rollout: str) -> StageRun:
        """The stage run of that rollout, once there is one."""

        def find() -> StageRun | None:
            runs = self.record.stage_runs(rollout=rollout)
            return runs[-1] if runs else None

        return self.until(f"{rollout} begins", find, 90)

    def until_step(self, number: int, *steps: str, within_s: float = 90) -> StageRun:
        def look() -> StageRun | None:
            run = self.record.stage_run(number)
            assert run.step in steps or run.step not in FINAL, f"{run.step}: {run.decided_criterion} {run.decided_why}"
            return run if run.step in steps else None

        try:
            return self.until(f"{' or '.join(steps)}", look, within_s)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self._where(number)}") from late

    def _where(self, number: int) -> str:
        """Where that stage stands and since when, what its guard has seen last, and what became of forms and flows."""
        row = self.record.stage_run(number)
        told = [f"it stands at {row.step}", f"now {time.strftime('%H:%M:%S', time.gmtime())}"]
        told += [f"{name} {at:%H:%M:%S}" for name, at in row.model_dump().items() if isinstance(at, datetime)]
        seen = self.record.measurements_latest(number)
        told += [f"{one.criterion_id} {one.outcome} {one.reason}" for one in seen if one.outcome != "GO"]
        told += [f"{one.person} refused: {one.refused_reason}" for one in self.record.sign_offs(number, accepted=False)]
        query = {"limit": 20, "sort": "START_TIME_DESC"}
        for run in self.api.post("/flow_runs/filter", json=query).raise_for_status().json():
            told.append(f"flow {run['name']} {run['parameters']} {run['state']['name']}: {run['state']['message']}")
        return "\n".join(told)

    def prefix(self, number: int, gate: str) -> str:
        run = self.record.stage_run(number)
        digest = run.entry_digest if gate == "entry" else run.evidence_digest
        assert digest is not None
        return digest[:6]

    def fresh_code(self, person: str) -> str:
        """A code that this person has not used: of this time step, or of the last while it serves some time yet."""
        spent = self._spent.setdefault(person, set())

        def look() -> int | None:
            now_s = time.time()
            steps = [int(now_s) // STEP_S] + ([int(now_s) // STEP_S - 1] if now_s % STEP_S < 10 else [])
            return next((step for step in steps if step not in spent), None)

        step = self.until("a fresh code", look, STEP_S + 1)
        spent.add(step)
        return current_code(self.folder.seeds, person, "simulated", step * STEP_S)

    def truth(self, account: str) -> dict[str, Any]:
        """What the venue itself holds of the account."""
        return venue_truth(self.folder, self.table().endpoints["venue_rest_url"], account)

    def bots(self) -> list[int]:
        """The PIDs of all bots with a run folder of this stack."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            except OSError:
                continue
            own = any(word.startswith(f"{self.folder.runs}/".encode()) for word in words)
            if own and b"bot" in words and b"run" in words:
                found.append(int(entry.name))
        return found

    def flows(self, flow_run_id: str = "") -> list[Identity]:
        """The processes that run flows of this stack: all, or the one of that flow run."""
        wanted = [f"SLIPWAY_STACK={self.table().mark}"]
        if flow_run_id:
            wanted.append(f"PREFECT__FLOW_RUN_ID={flow_run_id}")
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                known = (entry / "environ").read_bytes().split(b"\0") if b"prefect.engine" in words else []
            except OSError:
                continue
            if known and all(word.encode() in known for word in wanted):
                identity = identify(int(entry.name))
                found += [identity] if identity is not None else []
        return found

    @staticmethod
    def until(what: str, look: Callable[[], T | None], within_s: float) -> T:
        """What `look` finds. `within_s`: on a machine at rest; it is waited PATIENCE times as long."""
        within_s *= PATIENCE
        end = time.monotonic() + within_s
        while True:
            found = look()
            if found is not None:
                return found
            assert time.monotonic() < end, f"not within {within_s:.0f} s: {what}"
            time.sleep(0.1)
