"""A cell that needs no Prefect: one account, its guard, a real bot, venue and Prometheus, asked as a flow would ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tasks.launch import find_bots
from tasks.record_tables import StageRun
from tasks.supervise.identity import Identity, identify
from tests.chaos.holds import Books, faults
from tests.chaos.matrix import Cell
from tests.chaos.moments import Standing, look
from tests.chaos.outcome import Outcome, settled
from tests.chaos.strike import Striker, Target
from tests.support.guard_stack import GuardStack
from tests.support.slack_receiver import Receiver

PLAN = Path(__file__).parents[1] / "support" / "plan_chaos.yaml"
ROLLOUT = "chaos"
ENDS_WITHIN_S = 150.0
EXIT_SIGNERS = ("grace", "katherine")


def run_cell(cell: Cell, home: Path) -> Outcome:
    """The whole rollout with that one death in it, on a stack of its own."""
    begun = time.monotonic()
    receiver = Receiver()
    stack = GuardStack(home, PLAN)
    try:
        stack.environment["SLIPWAY_SLACK_WEBHOOK"] = receiver.url
        stack.start_guard()
        road = Road(stack, cell)
        striker = Striker(stack.record.engine, ROLLOUT, cell.step, road.target(), must_find=cell.has_victim)
        striker.start()
        run = road.take()
        hit = striker.done()
        settled(stack.record, run)
        road.books.texts = list(receiver.texts)
        wrong = faults(cell, stack.record, stack.folder, run, road.books)
        took_s = time.monotonic() - begun
        return Outcome(cell, run.step, run.decided_criterion or "", hit, striker.missed, wrong, took_s)
    finally:
        stack.close()
        receiver.close()


class Road:
    """What a flow and people do, by where the record stands. Whatever has been asked is asked again after a death."""

    def __init__(self, stack: GuardStack, cell: Cell) -> None:
        self.books = Books()
        self._stack, self._cell = stack, cell
        self._crossed = False

    def target(self) -> Target:
        victim = self._cell.victim
        again: dict[str, Callable[[], object]] = {"guard": self._again_guard, "prometheus": self._again_prometheus}
        return Target(
            guard=lambda _: self._process("guard"),
            find=self._bot if victim == "bot" else lambda _: [self._process(victim)],
            again=lambda: (again[victim]() and None) if victim in again else None,
            is_guard=victim == "guard",
        )

    def take(self) -> StageRun:
        """To the end of the stage run; returns it."""
        stack = self._stack
        payload = {"rollout": ROLLOUT, "stage": "canary", "plan": str(PLAN), "nonce": ROLLOUT, "requested_by": "test"}
        number = int(stack.ask("begin", payload).result["stage_run_id"])
        end = time.monotonic() + ENDS_WITHIN_S
        while not (at := self._at()).ended:
            assert time.monotonic() < end, f"not ended within {ENDS_WITHIN_S:g} s: {at.shown()}\n{stack.tail('guard')}"
            self._do(at)
            time.sleep(0.05)
        return stack.record.stage_run(number)

    def _at(self) -> Standing:
        at = look(self._stack.record.engine, ROLLOUT)
        assert at is not None
        return at

    def _do(self, at: Standing) -> None:
        stack, named = self._stack, {"stage_run_id": at.number}
        if at.step == "ready":
            self._sign(at, "entry", "ada")
            stack.ask("launch", named)
        elif at.step == "watch" and self._cell.rolls_back and not self._crossed:
            self._crossed = True
            stack.control("faults", {"kind": "crossing", "account": stack.account})
        elif at.step == "watched":
            stack.ask("judge", named, 90)
        elif at.step == "judged":
            for person in EXIT_SIGNERS:
                self._sign(at, "exit", person)
            stack.ask("promote", named)

    def _sign(self, at: Standing, gate: str, person: str) -> None:
        if not self.books.signed[gate, person] and self._at().step in ("ready", "judged"):
            answer = self._stack.sign(at.number, gate, person)
            self.books.signed[gate, person] += answer.done

    # ---- processes ------------------------------------------------------------------------------------------------

    def _process(self, name: str) -> Identity:
        found = identify(self._stack.processes[name].pid)
        assert found is not None, f"{name} does not run"
        return found

    def _bot(self, at: Standing) -> list[Identity]:
        """By its run folder, so also one that nobody has noted."""
        return find_bots(self._stack.folder.runs / f"{ROLLOUT}-canary-1")

    def _again_guard(self) -> object:
        self._stack.processes["guard"].wait(timeout=15)
        return self._stack.start_guard()

    def _again_prometheus(self) -> object:
        self._stack.processes["prometheus"].wait(timeout=15)
        return self._stack.start_prometheus()
