"""The demo's approvers: they fill in the same form as a person, through the same API, with their own one-time codes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
from sqlmodel import col, select

from tasks.record import Record
from tasks.record_tables import UsedCode
from tasks.sign_off import PREFIX_LENGTH, STEP_S, current_code
from tasks.state_folder import StateFolder

LOOK_EVERY_S = 0.5
ON_THE_WAY_S = 5.0
"""How long a form may take until the server has it: its code counts as of then."""
TIMEOUT_S = 5.0


class DemoApprovers(threading.Thread):
    """Signs GO at every approval of one stage run that waits for a form, until `stop`."""

    def __init__(
        self, folder: StateFolder, record: Record, api_url: str, stage_run_id: int, say: Callable[[str], None]
    ):
        super().__init__(name="demo approvers", daemon=True)
        self._folder = folder
        self._record = record
        self._api_url = api_url
        self._number = stage_run_id
        self._say = say
        self._over = threading.Event()
        self._answered: set[str] = set()

    def stop(self) -> None:
        self._over.set()
        self.join(2 * TIMEOUT_S)

    def run(self) -> None:
        with httpx.Client(base_url=self._api_url, timeout=TIMEOUT_S, trust_env=False) as client:
            while not self._over.wait(LOOK_EVERY_S):
                try:
                    for run in waiting_approvals(client, self._number):
                        self._sign(client, run)
                except (httpx.HTTPError, ValueError):
                    continue  # the server is busy or away: the form waits

    def _sign(self, client: httpx.Client, run: dict[str, Any]) -> None:
        person, gate = str(run["parameters"]["person"]), str(run["parameters"]["gate"])
        if run["state"]["id"] in self._answered:
            return
        code = self._fresh_code(person)
        stage_run = self._record.stage_run(self._number)
        digest = stage_run.entry_digest if gate == "entry" else stage_run.evidence_digest
        if code is None or not digest:
            return
        form = {
            "reviewer": person,
            "decision": "GO",
            "one_time_code": code,
            "evidence": digest[:PREFIX_LENGTH],
            "comment": "demo approver",
        }
        if send_form(client, str(run["id"]), form) == "ACCEPT":
            self._answered.add(str(run["state"]["id"]))
            self._say(f"{person} fills in the form: GO ({gate})")

    def _fresh_code(self, person: str) -> str | None:
        """A code of this time step or the one before which has not served; None where one has to wait for the next."""
        now_s = time.time()
        served = self._served(person)
        for back in (0, 1):
            step = int(now_s) // STEP_S - back
            # The code of the step before ends with this step, and has to be with the server until then.
            if back and now_s % STEP_S > STEP_S - ON_THE_WAY_S:
                continue
            if step not in served:
                return current_code(self._folder.seeds, person, "simulated", now_s - back * STEP_S)
        return None

    def _served(self, person: str) -> set[int]:
        since = int(time.time()) // STEP_S - 2
        query = select(UsedCode.time_step).where(UsedCode.person == person, col(UsedCode.time_step) >= since)
        with self._record.reading() as session:
            return set(session.exec(query).all())


def waiting_approvals(client: httpx.Client, stage_run_id: int) -> list[dict[str, Any]]:
    """The approvals of a stage run that are suspended with a form to fill in."""
    query = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}, "flows": {"name": {"any_": ["approval"]}}}
    answer = client.post("/flow_runs/filter", json={**query, "limit": 50, "sort": "START_TIME_DESC"})
    answer.raise_for_status()
    return [run for run in answer.json() if run["parameters"].get("stage_run_id") == stage_run_id]


def send_form(client: httpx.Client, flow_run_id: str, form: dict[str, str]) -> str:
    """Sends the form: ACCEPT, REJECT (the form is wrong) or ABORT (nothing waits). Both failures come as HTTP 200."""
    answer = client.post(f"/flow_runs/{flow_run_id}/resume", json={"run_input": form})
    if answer.status_code not in (200, 201):
        return f"HTTP {answer.status_code}"  # the form is not stored yet: it is suspended a moment before
    return str(answer.json().get("status"))
