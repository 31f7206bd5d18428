"""A cell that needs no Prefect: one account, its guard, a real bot, venue and Prometheus, asked as a flow would ask."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from tasks.launch import find_bots
from tasks.record import Answer
from tasks.record_tables import StageRun
from tasks.supervise.identity import Identity, identify
from tests.chaos.holds import Books, faults
from tests.chaos.matrix import Cell
from tests.chaos.moments import Standing, look
from tests.chaos.outcome import Outcome, settled
from tests.chaos.strike import Striker, Target
from tests.support.guard_stack import GuardStack
from tests.support.postgres import PostgresServer, postgres
from tests.support.slack_receiver import Receiver

T = TypeVar("T")
PLAN = Path(__file__).parents[1] / "support" / "plan_chaos.yaml"
ROLLOUT = "chaos"
ENDS_WITHIN_S = 240.0
ANSWERED_WITHIN_S = 30.0
AWAY_S_MAX = 60.0
EXIT_SIGNERS = ("grace", "katherine")


def run_cell(cell: Cell, home: Path) -> Outcome:
    """The whole rollout with that one death in it, on a stack of its own."""
    begun = time.monotonic()
    with contextlib.ExitStack() as opened:
        # Nothing of a killed process is lost with fsync off, and it does not sync the whole disk before it is back.
        server = opened.enter_context(postgres(fsync="off")) if cell.victim == "postgresql" else None
        receiver = Receiver()
        opened.callback(receiver.close)
        stack = GuardStack(home, PLAN, record_url=server.database() if server else "")
        opened.callback(stack.close)
        stack.environment["SLIPWAY_SLACK_WEBHOOK"] = receiver.url
        stack.start_guard()
        road = Road(stack, cell, server)
        striker = Striker(stack.record.engine, ROLLOUT, cell.step, road.target(), must_find=cell.has_victim)
        striker.start()
        run = road.take()
        hit = striker.done()
        settled(stack.record, run)
        road.books.texts = list(receiver.texts)
        wrong = faults(cell, stack.record, stack.folder, run, road.books)
        took_s = time.monotonic() - begun
        return Outcome(cell, run.step, run.decided_criterion or "", hit, striker.missed, wrong, took_s)


class Road:
    """What a flow and people do, by where the record stands. What a death left unanswered is asked again, as the same
    request."""

    def __init__(self, stack: GuardStack, cell: Cell, server: PostgresServer | None) -> None:
        self.books = Books()
        self._stack, self._cell, self._server = stack, cell, server
        self._crossed = False
        self._asked = itertools.count()

    def target(self) -> Target:
        victim, server = self._cell.victim, self._server
        guard: Callable[[Standing], Identity] = lambda _: self._process("guard")  # noqa: E731
        if server is not None:
            return Target(
                guard,
                find=lambda _: [one for one in (identify(server.pid),) if one is not None],
                kill=lambda _: server.kill(),
                again=server.start,
                holds_record=True,
            )
        if victim == "bot":
            return Target(guard, find=self._bot)
        again = self._again_guard if victim == "guard" else self._again_prometheus
        return Target(guard, find=lambda _: [self._process(victim)], again=again)

    def take(self) -> StageRun:
        """To the end of the stage run; returns it."""
        stack = self._stack
        payload = {"rollout": ROLLOUT, "stage": "canary", "plan": str(PLAN), "nonce": ROLLOUT, "requested_by": "test"}
        number = int(self._ask("begin", payload).result["stage_run_id"])
        end = time.monotonic() + ENDS_WITHIN_S
        while not (at := self._at()).ended:
            assert time.monotonic() < end, f"not ended within {ENDS_WITHIN_S:g} s: {at.shown()}\n{stack.tail('guard')}"
            self._do(at)
            time.sleep(0.05)
        return stack.record.stage_run(number)

    def _at(self) -> Standing:
        at = self._patiently(lambda: look(self._stack.record.engine, ROLLOUT))
        assert at is not None
        return at

    def _ask(self, kind: str, payload: dict[str, Any]) -> Answer:
        """One request under one key, however often it has to be brought to the record."""
        record, key = self._stack.record, f"{kind}-{next(self._asked)}"
        number = self._patiently(lambda: record.submit(self._stack.account, kind, payload, key))
        return self._stack.until(
            f"{kind} is answered", lambda: self._patiently(lambda: record.answer(number)), ANSWERED_WITHIN_S
        )

    def _patiently(self, call: Callable[[], T]) -> T:
        """A record that is away is waited for."""
        end = time.monotonic() + AWAY_S_MAX
        while True:
            try:
                return call()
            except DBAPIError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.1)

    def _do(self, at: Standing) -> None:
        stack, named = self._stack, {"stage_run_id": at.number}
        if at.step == "ready":
            self._sign(at, "entry", "ada")
            self._ask("launch", named)
        elif at.step == "watch" and self._cell.rolls_back and not self._crossed:
            self._crossed = True
            stack.control("faults", {"kind": "crossing", "account": stack.account})
        elif at.step == "watched":
            self._ask("judge", named)
        elif at.step == "judged":
            for person in EXIT_SIGNERS:
                self._sign(at, "exit", person)
            self._ask("promote", named)

    def _sign(self, at: Standing, gate: str, person: str) -> None:
        if self.books.signed[gate, person] or self._at().step not in ("ready", "judged"):
            return
        run = self._patiently(lambda: self._stack.record.stage_run(at.number))
        digest = (run.entry_digest if gate == "entry" else run.evidence_digest) or ""
        named = {"stage_run_id": at.number, "gate": gate, "person": person, "decision": "GO", "comment": ""}
        more = {"code": self._stack.fresh_code(person), "evidence_prefix": digest[:6]}
        self.books.signed[gate, person] += self._ask("sign_off", {**named, **more}).done

    # ---- processes ------------------------------------------------------------------------------------------------

    def _process(self, name: str) -> Identity:
        found = identify(self._stack.processes[name].pid)
        assert found is not None, f"{name} does not run"
        return found

    def _bot(self, at: Standing) -> list[Identity]:
        """By its run folder, so also one that nobody has noted."""
        return find_bots(self._stack.folder.runs / f"{ROLLOUT}-canary-1")

    def _again_guard(self) -> None:
        self._stack.processes["guard"].wait(timeout=15)
        self._stack.start_guard()

    def _again_prometheus(self) -> None:
        self._stack.processes["prometheus"].wait(timeout=15)
        self._stack.start_prometheus()
