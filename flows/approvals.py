"""The approvals of one stage run: starts one `approval` run for everybody who may sign, counts, ends what is left."""

from __future__ import annotations

import time
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client

from flows.shown import TIMEOUT_S, api_url
from gates.approvers import Quorum, Signature, SignOffs, asked_of, load_approvers, signed_off
from gates.stages import Plan, under_root
from tasks.record import Record

DEPLOYMENT = "approval/person"
REVIVE_EVERY_S = 15.0
START_AGAIN_S = 2.0
DEAD = ("FAILED", "CRASHED", "CANCELLED")


class Approvals:
    """Whom to ask, by the plan. Starting twice starts nothing twice: the runs have idempotency keys.

    Each visit of a part is asked for by runs of its own: what was signed for a step says nothing about the next.
    """

    def __init__(self, record: Record, stage_run_id: int, plan: Plan, link: str) -> None:
        self._record = record
        self._number = stage_run_id
        self._plan = plan
        self._link = link
        self._people = load_approvers(under_root(plan.approvers)).people
        self._runs: dict[tuple[str, int, str], UUID] = {}
        self._looked_s = 0.0
        self._start_again_s = 0.0
        self._stage = plan.stage(record.stage_run(stage_run_id).stage)

    def _required(self, gate: str) -> SignOffs:
        """Who signs here, in the part where the stage run stands now."""
        run = self._record.stage_run(self._number)
        if gate == "entry":
            return SignOffs() if run.predecessor_passed else self._stage.entry_sign_offs
        return self._stage.at(run.part).exit_sign_offs

    def _visit(self) -> int:
        """How many parts have been begun; 0 before the launch."""
        return len(self._record.parts(self._number))

    def start(self, gate: str) -> bool:
        """Starts an approval for each person who may sign here; at once, so that they get ready side by side.

        Whether everybody is asked by now. A server that is away leaves the rest for the next call: asked at every look,
        it tries every START_AGAIN_S. Raises what else the server says.
        """
        visit = self._visit()
        asked = [person for person in self._asked(gate) if (gate, visit, person) not in self._runs]
        if not asked:
            return True
        if time.monotonic() < self._start_again_s:
            return False
        try:
            with get_client(sync_client=True) as client:
                for person in asked:
                    self._runs[gate, visit, person] = self._start_one(client, gate, visit, person)
        except httpx.HTTPError as error:
            if not _is_away(error):
                raise
            if not self._start_again_s:  # said once
                get_run_logger().warning("%s sign-off not asked of everybody yet: %s", gate, type(error).__name__)
            self._start_again_s = time.monotonic() + START_AGAIN_S
            return False
        self._looked_s, self._start_again_s = time.monotonic(), 0.0
        get_run_logger().info("%s sign-off asked of %s", gate, ", ".join(asked))
        return True

    def _asked(self, gate: str) -> list[str]:
        return asked_of(self._required(gate), self._people, self._plan.author)

    def _start_one(self, client: SyncPrefectClient, gate: str, visit: int, person: str) -> UUID:
        """A run that died before the person had signed is replaced by a new one, under the next key."""
        deployment = client.read_deployment_by_name(DEPLOYMENT)
        named = {"stage_run_id": self._number, "gate": gate, "visit": visit, "person": person}
        parameters = {**named, "link": self._link}
        number = 0
        while True:
            key = f"approval-{self._number}-{gate}-{visit}-{person}-{number}"
            run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters, idempotency_key=key)
            if run.state is None or run.state.type.value not in DEAD:
                return run.id
            number += 1

    def revive(self, gate: str) -> None:
        """Every 15 s: an approval that died while the person still has to sign is started again."""
        if time.monotonic() - self._looked_s < REVIVE_EVERY_S:
            return
        self._looked_s = time.monotonic()
        counted, now = self.quorum(gate).counted, self._visit()
        try:
            for (of, visit, person), number in list(self._runs.items()):
                if of != gate or visit != now or person in counted:
                    continue
                told = httpx.get(f"{api_url()}/flow_runs/{number}", timeout=TIMEOUT_S, trust_env=False).json()
                if told.get("state_type") in DEAD:
                    get_run_logger().warning("the approval of %s died; asking again", person)
                    with get_client(sync_client=True) as client:
                        self._runs[of, visit, person] = self._start_one(client, of, visit, person)
        except (httpx.HTTPError, ValueError):
            return  # the server is away: looked at again later

    def quorum(self, gate: str) -> Quorum:
        """Who counts and what is missing, over the evidence as it is now. Shown only: the guard decides."""
        run = self._record.stage_run(self._number)
        digest = run.entry_digest if gate == "entry" else run.evidence_digest
        signatures = [
            Signature(row.person, "GO" if row.decision == "GO" else "NO-GO")
            for row in self._record.sign_offs(self._number, gate, accepted=True)
            if row.evidence_digest == digest
        ]
        return signed_off(self._required(gate), self._people, signatures, self._plan.author)

    def end_all(self) -> None:
        """Cancels approvals that still wait: the stage has ended. A server that is away costs nothing here."""
        for number in self._runs.values():
            end_approval(str(number))


def _is_away(error: httpx.HTTPError) -> bool:
    """Whether Prefect's server was not there, or too busy to answer: the same again later may go well."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.is_server_error or error.response.status_code == httpx.codes.TOO_MANY_REQUESTS
    return isinstance(error, httpx.TransportError)


def end_approval(flow_run_id: str) -> None:
    """Cancels a suspended approval; one that has ended keeps its state (a final state is not left)."""
    url = f"{api_url()}/flow_runs/{flow_run_id}"
    try:
        told = httpx.get(url, timeout=TIMEOUT_S, trust_env=False).json()
        if told.get("state_type") == "PAUSED":
            state = {"type": "CANCELLED", "name": "Ended", "message": "The stage has ended; nothing to sign."}
            httpx.post(f"{url}/set_state", json={"state": state}, timeout=TIMEOUT_S, trust_env=False)
    except (httpx.HTTPError, ValueError):
        return
