"""What the guard knows while it runs. Everything here can be built again from the tables: see `tasks.guard.resume`."""

from __future__ import annotations

import asyncio
import logging
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
from tasks.account_file import AccountAccess, AccountFileError, load_account
from tasks.guard.drilled import Drilled
from tasks.guard.exposition import Exposition
from tasks.guard.refusals import Refusals
from tasks.guard.results import Results
from tasks.guard.store import Store
from tasks.launch import BotProcess
from tasks.operate import Limits, Operator
from tasks.record import iso
from tasks.record_tables import Rollout, StageRun
from tasks.record_writer import Notice
from tasks.sign_off import Gate, Seeds, SignOffDesk
from tasks.state_folder import StateFolder

log = logging.getLogger("slipway.guard")


SENDING_S = 10.0
"""How long the outbox leaves alone what is being sent beside it."""


class Refused(Exception):
    """A request that the guard does not do. The message goes back to who asked."""


class RefusedAndTold(Refused):
    """One of which the record tells already, by a row or a link of its own."""


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

    @property
    def access(self) -> AccountAccess:
        """How to reach the account. Raises AccountFileError where its file does not load."""
        if self.known_access is None:
            raise AccountFileError(f"the file of account {self.row.account} does not load")
        return self.known_access

    @property
    def limits(self) -> Limits:
        """What the grant allows in this part."""
        symbols = () if set(self.stage.symbols) == set(self.whole.symbols) else self.stage.symbols
        return Limits(self.stage.inventory_max_quote, self.stage.total_max_quote, symbols)

    @property
    def needs_grant(self) -> bool:
        """Whether an order could leave at all. In shadow none does, so there is nothing to permit."""
        return self.stage.env != "shadow"

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
        self.stage = self.whole.at(number)
        self.criteria = criteria_of(self.stage)

    @property
    def state_dir(self) -> Path | None:
        return Path(self.row.state_dir) if self.row.state_dir else None

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
class Untaken:
    """A notice that the record has not taken yet. `delivered`: it went out without it; `sending`: it is about to."""

    kind: str
    line: str
    delivered: bool = False
    sending: bool = False


@dataclass
class GuardState:
    """One guard. `active` None: the account is free."""

    account: str
    folder: StateFolder
    prometheus_url: str
    store: Store
    shown: Exposition
    seeds: Seeds
    active: Active | None = None
    epoch: int = 0
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
    untaken: dict[str, Untaken] = field(default_factory=dict)
    """Notices on their way into the record, by key."""
    resuming: bool = False
    """Whether what runs is not known yet: until it is, `active` None does not say that nothing does."""
    loop: asyncio.AbstractEventLoop | None = None
    """Where all of this lives, once it runs: other threads act on it only through here."""

    @property
    def desk(self) -> SignOffDesk:
        return SignOffDesk(self.store.record, self.seeds)

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
        untaken = self.untaken
        untaken |= {one.key: Untaken(one.kind, one.line) for one in told}

        def put() -> None:
            write([_as_it_stands(one, untaken.get(one.key)) for one in told])
            for one in told:
                untaken.pop(one.key, None)

        return put


def _as_it_stands(notice: Notice, untaken: Untaken | None) -> Notice:
    """As it is queued, where it may have gone out beside the record, or be on its way now."""
    if untaken is None:
        return notice
    return notice._replace(delivered=untaken.delivered, due_in_s=SENDING_S if untaken.sending else 0.0)


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
        known_access=load_account(folder.root, row.account),
    )


def load_for_closing(folder: StateFolder, row: StageRun, rollout: Rollout, plan: Plan) -> Active:
    """What closing needs, from the plan as the record keeps it. The account's secrets stand in no table: its file is
    read where it can be."""
    try:
        access = load_account(folder.root, row.account)
    except AccountFileError:
        access = None
    return Active(row, rollout, plan, plan.stage(row.stage), criteria=(), approvers=None, known_access=access)


def now_ms() -> int:
    """The wall clock, ms since the epoch."""
    return time.time_ns() // 1_000_000


__all__ = [
    "Active",
    "GuardState",
    "PlanChanged",
    "Refused",
    "RefusedAndTold",
    "iso",
    "load_active",
    "load_for_closing",
    "now_ms",
    "said",
]
