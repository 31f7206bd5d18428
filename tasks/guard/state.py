"""What the guard knows while it runs. Everything here can be built again from the tables: see `tasks.guard.resume`."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gates.approvers import Approvers, SignOffs, load_approvers
from gates.course import Happening, Step, next_step
from gates.criteria import Criterion
from gates.decision import Decision, GuardHistory
from gates.stages import Plan, PlanError, Stage, criteria_of, load_plan, plan_digest, under_root
from tasks.account_file import ENVS, SIMULATED, AccountAccess, AccountFileError, load_account
from tasks.guard.drilled import Drilled
from tasks.guard.exposition import Exposition
from tasks.guard.refusals import Refusals
from tasks.guard.results import Results
from tasks.guard.store import Store
from tasks.guard.untaken import UntakenNotices
from tasks.launch import BotProcess
from tasks.operate import Limits, Operator
from tasks.record import iso
from tasks.record_tables import Rollout, StageRun
from tasks.record_writer import Notice
from tasks.sign_off import Gate, Seeds, SignOffDesk
from tasks.state_folder import StateFolder
from tasks.supervise.identity import Identity
from tasks.supervise.machine import Machine, Seen, host_of, this_machine

log = logging.getLogger("slipway.guard")

STAND_IN = "stand-in"
"""The nonce of whatever is put through a stage at a stand-in on loopback: that candidate has passed nothing anywhere
else."""


class Refused(Exception):
    """A request that the guard does not do. The message goes back to who asked."""


class RefusedAndTold(Refused):
    """One of which the record tells already, by a row or a link of its own."""


class RefusedForNow(Refused):
    """Of what may be done a moment later: nothing speaks against it, but something could not be seen, or made."""


class PlanChanged(PlanError):
    """The plan, its criteria, settings or approvers are not what was signed any more."""


@dataclass
class Active:
    """The stage run this guard is busy with, and what belongs to it.

    `known_access` and `approvers` are None where their files do not load any more: then the stage is only closed.
    `whole` is the stage as the plan writes it, `stage` as it is in the part where it stands; `criteria` are the part's.
    """

    row: StageRun
    rollout: Rollout
    plan: Plan
    whole: Stage
    criteria: tuple[Criterion, ...]
    approvers: Approvers | None
    known_access: AccountAccess | None
    history: GuardHistory | None = None
    bot: BotProcess | None = None
    operator: Operator | None = None
    closing: asyncio.Task[None] | None = None
    looking: asyncio.Task[None] | None = None
    """The last look at what the bot left, begun once it was gone. Its result is part of the end."""
    decision: Decision | None = None
    launching: bool = False
    bot_gone: bool = False
    prolonged: bool = False
    data_check: asyncio.Task[None] | None = None
    drilling: asyncio.Task[None] | None = None
    repeat_check: asyncio.Task[None] | None = None
    stop_asked: bool = False
    """Whether the bot has been told to stop by us: from then on its end is no death."""
    promoting_since_ms: int | None = None
    """When every criterion was last seen to PASS before the promotion, by this guard."""
    drilled: Drilled = field(default_factory=Drilled)
    told: set[str] = field(default_factory=set)
    """Faults that were recorded already: what is asked again and again is told once."""
    results: Results = field(default_factory=Results)
    """What the candidate's attempts came to, as far as it cannot change any more."""
    looked_ms: dict[str, int] = field(default_factory=dict)
    """When each criterion was looked at last, by whichever guard."""
    looked: dict[str, str] = field(default_factory=dict)
    """And with what outcome, by whichever of this guard's looks: its loops', a verdict's, a promotion's, a drill's."""
    below: Stage | None = None
    """The smaller part that it steps down to, until that is written: what is smaller does not wait for the record."""
    stage: Stage = field(init=False)

    def __post_init__(self) -> None:
        self.stage = self.whole.at(self.row.part)

    @property
    def id(self) -> int:
        assert self.row.id is not None  # noqa: S101 - told to the type checker; a stored row has its number
        return self.row.id

    @property
    def step(self) -> Step:
        return Step(self.row.step)

    def at(self, *steps: Step) -> bool:
        """Whether it stands at one of these steps now; what was true before an `await` may not be any more."""
        return self.step in steps

    def refuse_unless(self, step: Step) -> None:
        """What a request asks of itself after each `await`. Raises Refused where the stage was moved meanwhile."""
        if not self.at(step):
            raise Refused(f"the stage became {self.row.step} meanwhile: {self.row.decided_why or 'stopped'}")

    @property
    def access(self) -> AccountAccess:
        """How to reach the account. Raises AccountFileError where its file does not load."""
        if self.known_access is None:
            raise AccountFileError(f"the file of account {self.row.account} does not load")
        return self.known_access

    @property
    def limits(self) -> Limits:
        """What the grant allows in this part, or already in the smaller one that is being entered."""
        stage = self.below or self.stage
        symbols = () if set(stage.symbols) == set(self.whole.symbols) else stage.symbols
        return Limits(stage.inventory_max_quote, stage.total_max_quote, symbols)

    @property
    def needs_grant(self) -> bool:
        """Whether an order could leave at all. In shadow none does, so there is nothing to permit."""
        return self.stage.env != "shadow"

    @property
    def keyless(self) -> bool:
        """Whether it runs on a real venue's public market data, where it has no account."""
        return self.plan.keyless(self.stage)

    @property
    def part_name(self) -> str:
        """The id of the part in which it stands; empty where the stage has none."""
        return self.whole.part_name(self.row.part)

    @property
    def visit(self) -> str:
        """Which visit of which part this is: what is told of a part is told in each of them, once."""
        return f"{self.row.part}-{iso(self.row.part_from) or ''}"

    @property
    def entry_sign_offs(self) -> SignOffs:
        """Who signs before the grant: nobody where the stages before have passed, whose ends were signed."""
        return SignOffs() if self.row.predecessor_passed else self.stage.entry_sign_offs

    def enter(self, number: int) -> None:
        """Into that part: its sizes, its criteria. The files were part of what was signed, and loaded before."""
        self.stage, self.below = self.whole.at(number), None
        self.criteria = criteria_of(self.stage)

    @property
    def state_dir(self) -> Path | None:
        return Path(self.row.state_dir) if self.row.state_dir else None

    @property
    def drilled_part(self) -> int | None:
        """The part whose drills are being made, or may have been when the stage was stopped; None where none are."""
        drilled = self.at(Step.DRILLS, Step.ROLLING_BACK, Step.ROLLBACK_FAILED)
        return self.row.part if drilled else None

    @property
    def watched_over(self) -> bool:
        """Whether guard criteria count now: from launch until the bot is proven stopped."""
        return self.history is not None and not self.bot_gone

    def gate(self, name: str) -> Gate:
        """What is asked of people at `entry` or `exit`. Raises Refused where nothing is asked yet, or no more."""
        open_at = {"entry": (Step.READY, self.row.entry_digest), "exit": (Step.JUDGED, self.row.evidence_digest)}
        if name not in open_at:
            raise Refused(f"gate {name!r}: allowed are entry and exit")
        step, digest = open_at[name]
        if self.approvers is None:
            raise Refused("the approvers file does not load: nobody can sign")
        if self.step is not step or digest is None:
            raise Refused(f"the {name} gate is open while the stage is {step.value}; it is {self.step.value}")
        required = self.entry_sign_offs if name == "entry" else self.stage.exit_sign_offs
        return Gate(self.id, name, required, self.approvers, self.plan.author, digest)


@dataclass
class GuardState:
    """One guard. `active` None: the account is free."""

    account: str
    folder: StateFolder
    prometheus_url: str
    store: Store
    shown: Exposition
    seeds: Seeds
    machine: Machine = field(default_factory=this_machine)
    """This machine in its present boot: where a bot that is started now can be seen."""
    active: Active | None = None
    epoch: int = 0
    """The account's, as this guard last took it, or found it at its start or at the begin of a stage."""
    sign: str = field(default_factory=lambda: secrets.token_hex(4))
    """By which it knows an epoch as its own whose answer was lost."""
    granting: bool = False
    granted_at_s: float = field(default_factory=time.monotonic)
    """When the last grant was on its way, monotonic, whether it was answered or not: the bot may have taken it. For a
    guard that has sent none its start: the one before it may have granted until then."""
    course: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever moves the course forward; a stop never waits for it."""
    granting_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a grant call is on its way: a renewal must not overtake a revoke."""
    epoch_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the next epoch is taken: an adoption and a revoke may want one at the same time."""
    delivering: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while due notices go out, so that none goes out twice."""
    tried: set[int] = field(default_factory=set)
    """Notices of which it is not written yet how their last try ended."""
    slack_away: tuple[float, int] = (0.0, 0)
    """Until when (monotonic) nothing goes out, for Slack took nothing; and up to which notice: a newer one is tried."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    refusals: Refusals = field(default_factory=Refusals)
    untaken: UntakenNotices = field(default_factory=UntakenNotices)
    resuming: bool = False
    """Whether what runs is not known yet: until it is, `active` None does not say that nothing does."""
    loop: asyncio.AbstractEventLoop | None = None
    """Where all of this lives, once it runs: other threads act on it only through here."""

    @property
    def desk(self) -> SignOffDesk:
        return SignOffDesk(self.store.record, self.seeds)

    def elsewhere(self, row: StageRun) -> str:
        """The name of the machine where its bot was started, if that cannot be seen from here; else empty."""
        if self.machine.sees(row.machine) is not Seen.ELSEWHERE:
            return ""
        return host_of(row.machine) or "unnamed"

    def bot_of(self, row: StageRun) -> Identity | None:
        """Its bot's process, to be looked for here. None where none was noted, or it was started elsewhere: of that
        one nothing is known."""
        if row.pid is None or row.pid_started_ticks is None or self.elsewhere(row):
            return None
        return Identity(row.pid, row.pid_started_ticks, over=self.machine.sees(row.machine) is Seen.OVER)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Runs `work` beside everything else; an exception in it is logged with its reason and counted."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s ended by %s: %s", task.get_name(), type(error).__name__, error, exc_info=error)

    # ---- the course -----------------------------------------------------------------------------------------------

    async def move(self, active: Active, happening: Happening, told: Sequence[Notice] = (), /, **changes: Any) -> None:
        """One step forward, written with its notices before it counts. Raises IllegalStep. A stop that comes meanwhile
        outranks it."""
        before = active.step
        step = next_step(before, happening)
        await self.store.call(self.store.record.change_stage_run, active.id, "step", told, step=step.value, **changes)
        for name, value in changes.items():
            setattr(active.row, name, value)
        if active.step is before:
            active.row.step = step.value
            self._show(active)

    def move_at_once(
        self, active: Active, happening: Happening, told: Sequence[Notice] = (), /, **changes: Any
    ) -> None:
        """A step that must not wait for the record: it counts now and is written as soon as the record takes it."""
        step = next_step(active.step, happening)
        for name, value in {"step": step.value, **changes}.items():
            setattr(active.row, name, value)
        record, number = self.store.record, active.id

        def write(notices: Sequence[Notice]) -> None:
            record.change_stage_run(number, "step", notices, step=step.value, **changes)

        self.store.tell(f"step {step.value}", self.telling(told, write))
        self._show(active)

    def _show(self, active: Active) -> None:
        log.info("%s/%s is %s", active.row.rollout, active.row.stage, active.row.step)
        self.shown.stage(active.row.stage, active.row.step)

    def notice(self, active: Active, kind: str, text: str, turn: object = "") -> None:
        """Queues a notice of something that is not written, once per (stage run, kind, turn); else see `said`."""
        self.store.tell(kind, self.telling([said(active, kind, text, turn)], self.store.record.queue_notices))

    def telling(self, told: Sequence[Notice], write: Callable[[Sequence[Notice]], object]) -> Callable[[], None]:
        """A background write together with what is told of it.

        Until the record has taken it, that stands in `untaken`: a record that is away must not keep it from people.
        """
        untaken, is_out = self.untaken, self.store.record.notice_is_out
        untaken.expect(told)
        written = False

        def put() -> None:
            nonlocal written
            if not written:
                write(untaken.as_they_stand(told))
                written = True  # from here on only that is tried again which may have failed
            for one in told:
                untaken.settle(one.key, is_out)

        return put


def said(active: Active, kind: str, text: str, turn: object = "") -> Notice:
    """The notice of a transition, to be written with it: a guard that dies in between must not leave it untold."""
    return Notice(f"{active.id}:{kind}:{turn}", kind, f"[{active.row.rollout}/{active.row.stage}] {text}")


def load_active(folder: StateFolder, row: StageRun, rollout: Rollout) -> Active:
    """Everything that belongs to a stage run, from its files. Raises what the files' loaders raise, and PlanChanged."""
    plan = load_plan(Path(row.plan_path))
    found = plan_digest(plan)
    if found != rollout.plan_digest:
        said = f"{row.plan_path} and its files are {found[:12]}, signed was {rollout.plan_digest[:12]}"
        raise PlanChanged(f"the plan changed under the signature: {said}")
    whole = plan.stage(row.stage)
    return Active(
        row=row,
        rollout=rollout,
        plan=plan,
        whole=whole,
        criteria=criteria_of(whole.at(row.part)),
        approvers=load_approvers(under_root(plan.approvers)),
        known_access=account_as_begun(folder, row, rollout, plan),
    )


def load_for_closing(folder: StateFolder, row: StageRun, rollout: Rollout, plan: Plan) -> Active:
    """What closing needs, from the plan as the record keeps it. The account's secrets stand in no table: its file is
    read where it can be."""
    try:
        access = account_as_begun(folder, row, rollout, plan)
    except AccountFileError:
        access = None
    return Active(row, rollout, plan, plan.stage(row.stage), criteria=(), approvers=None, known_access=access)


def account_as_begun(folder: StateFolder, row: StageRun, rollout: Rollout, plan: Plan) -> AccountAccess:
    """How to reach the account of a stage run, by its file as it is now. Raises AccountFileError, also where the file
    leads to another venue, environment or stand-in than the run began at: its key is not the run's, and what is read
    there proves nothing of it."""
    access, env = load_account(folder.root, row.account), plan.stage(row.stage).env
    began = f"run {row.id} began"
    if access.venue != plan.venue:
        raise AccountFileError(f"account {row.account} is at {access.venue}, {began} at {plan.venue}")
    if plan.venue == SIMULATED:
        return access
    if env in ENVS and access.env != env:
        raise AccountFileError(f"account {row.account} is for {access.env}, {began} for {env}")
    where = {True: "a stand-in", False: "the venue itself"}
    begun_at_stand_in = rollout.nonce == STAND_IN
    if access.is_stand_in != begun_at_stand_in:
        said = f"account {row.account} is at {where[access.is_stand_in]}, {began} at {where[begun_at_stand_in]}"
        raise AccountFileError(said)
    return access


def account_now(guard: GuardState, active: Active) -> AccountAccess:
    """How to reach the account; its file is looked at anew where it did not load. Raises AccountFileError."""
    return active.known_access or account_as_begun(guard.folder, active.row, active.rollout, active.plan)


def now_ms() -> int:
    """The wall clock, ms since the epoch."""
    return time.time_ns() // 1_000_000


__all__ = [
    "Active",
    "GuardState",
    "PlanChanged",
    "Refused",
    "RefusedAndTold",
    "RefusedForNow",
    "account_now",
    "iso",
    "load_active",
    "load_for_closing",
    "now_ms",
    "said",
]
