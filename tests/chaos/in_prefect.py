"""A cell with Prefect in it: one embedded stack for all of them, each cell a rollout on an account of its own.

People sign the exit by Prefect's form. The supervisor starts again what was killed of the stack; a flow that died is
run again, as whoever finds it dead would do.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import httpx

from tasks.record_tables import StageRun
from tasks.simulated_account import control
from tasks.supervise.identity import Identity
from tests.chaos.at_guard import EXIT_SIGNERS, PLAN
from tests.chaos.holds import Books, faults
from tests.chaos.matrix import Cell
from tests.chaos.moments import Standing, look
from tests.chaos.outcome import Outcome, settled
from tests.chaos.strike import Hit, Striker, Target
from tests.flows.prefect_stack import PrefectStack
from tests.support.slack_receiver import Receiver

ENDS_WITHIN_S = 480.0
OPEN_TRIES = 3
STARTS_WITHIN_S = 90.0
BACK_WITHIN_S = 90.0
SEND_AGAIN_S = 20.0
EXPECTED_SIGNED = {("entry", "ada"), *(("exit", person) for person in EXIT_SIGNERS)}


class Stack:
    """The stack and the webhook that its guards tell. Opened once, closed at the end."""

    def __init__(self, home: Path) -> None:
        self.receiver = Receiver()
        self.prefect = PrefectStack(home, self.receiver, PLAN)
        self.cells = 0

        self._opened = False

    def open(self) -> None:
        """Once more where a machine that is busy with something else was too slow for it."""
        for left in reversed(range(OPEN_TRIES)):
            try:
                self.prefect.open()
                self._opened = True
                return
            except AssertionError:
                if not left:
                    raise

    def close(self) -> str:
        """What `rollout down` said where it did not end clean; else empty."""
        self.receiver.close()
        if not self._opened:
            return ""
        down = self.prefect.close()
        return "" if down.returncode == 0 else down.stdout + down.stderr

    def run_cell(self, cell: Cell) -> Outcome:
        """The whole rollout with that one death in it."""
        begun = time.monotonic()
        self.cells += 1
        self._healthy()
        road = Road(self.prefect, cell, f"chaos-{self.cells}-{cell.name.replace('@', '-').replace('_', '-')}")
        striker = Striker(self.prefect.record.engine, road.rollout, cell.step, road.target(), must_find=True)
        striker.start()
        run = road.take()
        hit: Hit | None = striker.done()
        settled(self.prefect.record, run)
        books = Books(texts=list(self.receiver.texts))
        books.signed.update(EXPECTED_SIGNED if run.judged_at is not None else {("entry", "ada")})
        wrong = faults(cell, self.prefect.record, self.prefect.folder, run, books)
        wrong += road.flow_faults(run)
        took_s = time.monotonic() - begun
        return Outcome(cell, run.step, run.decided_criterion or "", hit, striker.missed, wrong, took_s)

    def _healthy(self) -> None:
        """What the cell before killed is back."""

        def look() -> bool | None:
            with contextlib.suppress(httpx.HTTPError):
                answers = self.prefect.api.get("/health", timeout=2).status_code == 200
                return True if answers and self.prefect.process("prefect-worker").is_alive() else None
            return None

        self.prefect.until("server and worker are back", look, BACK_WITHIN_S)


class Road:
    """Keeps a flow on it and signs, by where the record stands."""

    def __init__(self, stack: PrefectStack, cell: Cell, rollout: str) -> None:
        self.rollout = rollout
        self._stack, self._cell = stack, cell
        self._flow_run = ""
        self._flow_since_s, self._flow_seen = 0.0, False
        self._sent: dict[str, tuple[str, float]] = {}
        self._crossed = False

    def target(self) -> Target:
        stack = self._stack
        names = {"worker": "prefect-worker", "server": "prefect-server"}

        def find(_: Standing) -> list[Identity]:
            if self._cell.victim == "flow":
                return stack.flows()
            return [stack.process(names[self._cell.victim])]

        return Target(guard=lambda at: stack.process(f"guard-{at.account}"), find=find)

    def take(self) -> StageRun:
        """To the end of the stage run; returns it."""
        stack = self._stack
        end = time.monotonic() + ENDS_WITHIN_S
        while True:
            at = look(stack.record.engine, self.rollout)
            if at is not None and at.ended:
                return stack.record.stage_run(at.number)
            said = "no stage run" if at is None else at.shown()
            assert time.monotonic() < end, f"not ended within {ENDS_WITHIN_S:g} s: {said}"
            with contextlib.suppress(httpx.HTTPError):  # the server is away: again at the next turn
                self._keep_flow(at)
                if at is not None:
                    self._do(at)
            time.sleep(0.1)

    def flow_faults(self, run: StageRun) -> list[str]:
        """A promotion is what Prefect shows in the end, and there was one stage run, whoever asked for it again."""
        wrong = []
        runs = self._stack.record.stage_runs(rollout=self.rollout)
        if len(runs) != 1:
            wrong.append(f"{len(runs)} stage runs of one rollout")
        if run.step == "promoted":
            end = time.monotonic() + STARTS_WITHIN_S
            state: dict[str, object] = {}
            while time.monotonic() < end and state.get("type") not in ("COMPLETED", "FAILED"):
                with contextlib.suppress(httpx.HTTPError):
                    self._keep_flow(None)
                    state = self._stack.flow_run(self._flow_run)["state"]
                time.sleep(0.25)
            if state.get("type") != "COMPLETED":
                wrong.append(f"promoted, and Prefect shows {state.get('type')} {state.get('message')}")
        return wrong

    # ---- the flow -------------------------------------------------------------------------------------------------

    def _keep_flow(self, at: Standing | None) -> None:
        """Started at first; and again where its process has died, while there is something left to go through."""
        stack = self._stack
        if not self._flow_run:
            self._start_flow()
            return
        if stack.flows(self._flow_run):
            self._flow_seen = True
            return
        over = stack.flow_run(self._flow_run)["state"]["type"] == "COMPLETED"
        late = time.monotonic() - self._flow_since_s > STARTS_WITHIN_S
        closing = at is not None and at.step in ("rolling_back", "rollback_failed")
        if (self._flow_seen or late) and not over and not closing:
            self._start_flow()

    def _start_flow(self) -> None:
        self._flow_run = self._stack.run_deployment(rollout=self.rollout)
        self._flow_since_s, self._flow_seen = time.monotonic(), False

    # ---- people ---------------------------------------------------------------------------------------------------

    def _do(self, at: Standing) -> None:
        if at.step == "ready":
            self._sign_by_inbox(at)
        elif at.step == "watch" and self._cell.rolls_back and not self._crossed:
            self._crossed = True
            url = self._stack.table().endpoints["venue_rest_url"]
            control(self._stack.folder, url, "faults", {"kind": "crossing", "account": at.account})
        elif at.step == "judged":
            for person in EXIT_SIGNERS:
                if not self._signed(at, "exit", person):
                    self._send_form(at, person)
                    return

    def _signed(self, at: Standing, gate: str, person: str) -> bool:
        return any(one.person == person for one in self._stack.record.sign_offs(at.number, gate, accepted=True))

    def _sign_by_inbox(self, at: Standing) -> None:
        """Once: the request stands in the record, whatever dies."""
        if "entry" in self._sent:
            return
        stack = self._stack
        named = {"stage_run_id": at.number, "gate": "entry", "person": "ada", "decision": "GO", "comment": ""}
        more = {"code": stack.fresh_code("ada"), "evidence_prefix": stack.prefix(at.number, "entry")}
        stack.record.submit(at.account, "sign_off", {**named, **more}, f"entry-{self.rollout}")
        self._sent["entry"] = ("", time.monotonic())

    def _send_form(self, at: Standing, person: str) -> None:
        """What was sent and not counted is asked anew, and then sent anew with a new code."""
        state, sent_s = self._sent.get(person, ("", 0.0))
        if sent_s and time.monotonic() - sent_s < SEND_AGAIN_S:
            return
        stack = self._stack
        run = stack.find_approval(at.number, "exit", person, not_state=state)
        if run is None:
            return
        code, prefix = stack.fresh_code(person), stack.prefix(at.number, "exit")
        form = {"reviewer": person, "decision": "GO", "one_time_code": code, "evidence": prefix}
        self._sent[person] = (run["state"]["id"], time.monotonic())
        stack.send(run, **form)
