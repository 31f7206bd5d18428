"""What a run shows in the Prefect UI, written beside its path: a server that is away costs nothing but the showing."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from typing import Any

import httpx
from prefect import runtime

from flows.words import criteria_rows, decision_note, evidence_note, sign_off_rows
from tasks.measured import measured_until_stopped
from tasks.record import Record

TIMEOUT_S = 2.0
CRITERIA_EVERY_S = 10.0
CANCEL_EVERY_S = 2.0


class Board:
    """The artifacts of one stage run. Each call puts its work in a queue and returns; one thread sends them."""

    def __init__(self, record: Record, stage_run_id: int) -> None:
        self._record = record
        self._number = stage_run_id
        self._flow_run_id = str(runtime.flow_run.id)
        self._next_criteria_s = 0.0
        self._failing = ""
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._send_all, name="artifacts", daemon=True)
        self._thread.start()

    def show_criteria(self, *, now: bool = False) -> None:
        """The criteria with their values against their bands; at most every ten seconds, or `now`."""
        if not now and time.monotonic() < self._next_criteria_s:
            return
        self._next_criteria_s = time.monotonic() + CRITERIA_EVERY_S
        rows = criteria_rows(measured_until_stopped(self._record, self._record.stage_run(self._number)))
        if rows:
            self._table("criteria", rows, "Each criterion with its newest value and what it needs.")

    def show_sign_offs(self) -> None:
        rows = sign_off_rows(self._record.sign_offs(self._number))
        if rows:
            self._table("sign-offs", rows, "Who signed, what, and what was refused.")

    def show_evidence(self, gate: str) -> None:
        """The digest that people sign at this gate."""
        run = self._record.stage_run(self._number)
        digest = run.entry_digest if gate == "entry" else run.evidence_digest
        if digest:
            self._markdown(f"{gate}-evidence", evidence_note(run, gate, digest))

    def show_end(self) -> None:
        """Criteria, sign-offs and the decision; waits a moment for the thread, so that the run does not end first."""
        self.show_criteria(now=True)
        self.show_sign_offs()
        run = self._record.stage_run(self._number)
        self._markdown("decision", decision_note(run, self._record.rollback_steps(self._number)))
        self._queue.put(None)
        self._thread.join(3 * TIMEOUT_S)

    def _table(self, name: str, rows: list[dict[str, str]], description: str) -> None:
        self._put(name, "table", json.dumps(rows), description)

    def _markdown(self, name: str, text: str) -> None:
        self._put(name, "markdown", text, "")

    def _put(self, name: str, kind: str, data: str, description: str) -> None:
        run = self._record.stage_run(self._number)
        key = f"{run.rollout}-{run.stage}-{name}".lower().replace("_", "-").replace(".", "-")
        body = {"key": key, "type": kind, "data": data, "description": description, "flow_run_id": self._flow_run_id}
        self._queue.put(body)

    def _send_all(self) -> None:
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
            while (body := self._queue.get()) is not None:
                try:
                    answer = client.post(f"{api_url()}/artifacts/", json=body)
                    self._note("" if answer.is_success else f"HTTP {answer.status_code}", body["key"])
                except httpx.HTTPError as error:
                    self._note(type(error).__name__, body["key"])

    def _note(self, failure: str, key: str) -> None:
        """Says once that showing fails, and once that it works again."""
        if failure and failure != self._failing:
            print(f"artifact {key} not shown ({failure}); the stage goes on", flush=True)
        self._failing = failure


_cancel_looked_s = 0.0


def cancel_asked() -> bool:
    """Whether this run is being cancelled in Prefect. Asks at most every two seconds; no answer is no wish."""
    global _cancel_looked_s  # noqa: PLW0603 - one flow a process
    now_s = time.monotonic()
    if now_s - _cancel_looked_s < CANCEL_EVERY_S:
        return False
    _cancel_looked_s = now_s
    try:
        answer = httpx.get(f"{api_url()}/flow_runs/{runtime.flow_run.id}", timeout=TIMEOUT_S, trust_env=False)
        return bool(answer.json().get("state_type") == "CANCELLING")
    except (httpx.HTTPError, ValueError):
        return False


def api_url() -> str:
    return os.environ.get("PREFECT_API_URL", "").rstrip("/")
