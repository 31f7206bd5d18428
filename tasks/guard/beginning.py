"""Opens a stage run for a candidate, or finds the one that is open, and does its preflight."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from bot.config import Settings, load_settings, settings_digest
from bot.settings_file import ConfigError
from bot.version import code_version
from gates.approvers import ApproversError, load_approvers, refuse_made_up_people
from gates.checklists import ATTESTED, DRILLED
from gates.course import Happening, Step
from gates.criteria import CriteriaError, Fault
from gates.decision import Action, Decision
from gates.judge import Outcome
from gates.stages import (
    Plan,
    PlanError,
    Stage,
    candidate_digest,
    cannot_be_measured,
    checklist_of,
    load_plan,
    plan_digest,
    under_root,
)
from tasks.account_file import ENVS, SIMULATED, AccountAccess, AccountFileError, load_account
from tasks.guard.asking import link_of, wanted_words
from tasks.guard.closing import by_people, end_stage
from tasks.guard.damage import refuse_damaged
from tasks.guard.drillable import cannot_be_drilled
from tasks.guard.launching import launch_of
from tasks.guard.spent import attempts_used, burnt_by
from tasks.guard.state import STAND_IN, Active, GuardState, Refused, RefusedForNow, load_active, now_ms, said
from tasks.names import NameRefused, check_name
from tasks.preflight import CHECKS, Checked, Subject, again_at_launch, entry_evidence, passed, preflight
from tasks.preflight_listed import gather, item_check
from tasks.record import RecordError, StopDamaged, iso
from tasks.record_audit import measurements_fault, record_fault
from tasks.record_chain import canonical_json
from tasks.record_stops import CLOCKS_APART_S, Created, StopSaid
from tasks.record_tables import MeasurementLatest, MeasurementRow, Rollout, StageRun, utc_now
from tasks.sign_off import SeedsError

log = logging.getLogger("slipway.guard.beginning")
SHIPPED_CRITERIA = Path("configs/criteria")
"""For each live stage a file of its name."""
SHIPPED_CHECKLIST = Path("configs/checklists/live.yaml")
BAD_INPUT = (PlanError, CriteriaError, ApproversError, ConfigError, AccountFileError, RecordError, NameRefused)


async def begin(guard: GuardState, payload: dict[str, Any]) -> dict[str, Any]:
    """The inbox's `begin`: idempotent. Raises Refused."""
    name, stage_id = _word(payload, "rollout"), _word(payload, "stage")
    try:
        check_name("rollout", name)
        since, created = _seen(payload), _created(payload)
        known = await _known(guard, name, stage_id)
        if known is not None:
            await _end_if_stopped(guard, name, since)
            return known
        if (stopped := await _stopped(guard, name, since, created)) is not None:
            raise Refused(_in_words_stopped(name, stopped))
        plan_path, link = Path(_word(payload, "plan")), link_of(payload)
        rollout, plan = await asyncio.to_thread(candidate_of, guard, name, plan_path, payload)
        stage = plan.stage(stage_id)
        passed_before = await _refuse_unfit(guard, rollout, plan, stage)
        record = guard.store.record
        await guard.store.call(record.know_account, plan.venue)
        guard.epoch = await guard.store.call(record.epoch)  # where it is free nobody's bot holds a later one
        await guard.store.call(record.add_rollout, rollout)
        attempts = [run.attempt for run in await guard.store.call(record.stage_runs, name) if run.stage == stage_id]
        row = StageRun(
            rollout=name,
            account=guard.account,
            stage=stage_id,
            attempt=max(attempts, default=0) + 1,
            step=Step.REQUESTED.value,
            candidate=rollout.candidate,
            plan_path=str(plan_path),
            predecessor_passed=passed_before,
            link=link,
        )
        # Loaded first: a stage run whose files do not load would hold the account with nobody over it.
        active = await asyncio.to_thread(load_active, guard.folder, row, rollout)
        active.row = await guard.store.call(record.add_stage_run, row, plan.model_dump(mode="json"))
    except BAD_INPUT as error:
        raise Refused(str(error)) from error
    guard.active = active
    try:
        # Again: who said it a moment ago saw no stage that was open.
        await _end_if_stopped(guard, name, since)
    finally:  # where the record went away meanwhile, whoever asks again is told of the stage that is open already
        if active.step is Step.REQUESTED:
            guard.spawn(do_preflight(guard, active), "preflight")
    return {"stage_run_id": active.id, "step": active.row.step}


def _seen(payload: dict[str, Any]) -> int:
    """The request in the inbox that was the newest when whoever asks began; where it is not told, the one that asks."""
    seen = payload.get("requests_seen", payload.get("inbox_id", 0))
    if isinstance(seen, bool) or not isinstance(seen, int) or seen < 0:
        raise Refused(f"requests_seen: {seen!r}, needs a whole number, at least 0")
    return seen


def _created(payload: dict[str, Any]) -> Created | None:
    """When the flow run that asks was created; None where none asks. Refused where that cannot be told from a stop."""
    if "run_created_ms" not in payload:
        return None
    at_ms, machine = payload["run_created_ms"], payload.get("run_created_on", "")
    if isinstance(at_ms, bool) or not isinstance(at_ms, int) or at_ms < 0:
        raise Refused(f"run_created_ms: {at_ms!r}, needs the time at which the flow run was created, unix ms")
    ahead_s = (at_ms - now_ms()) / 1000
    if ahead_s > CLOCKS_APART_S:  # before or after a stop: nobody knows
        raise Refused(
            f"run_created_ms: this flow run was created {ahead_s:.0f} s from now; set the clocks of Prefect's server "
            "and of this guard, then start a new run"
        )
    return Created(at_ms, machine if isinstance(machine, str) else "")


def _in_words_stopped(name: str, stopped: StopSaid) -> str:
    said_so = f"rollout {name} was stopped by {stopped.who}: {stopped.why}, at {iso(stopped.at)}"
    when, why = "", "as clocks may differ" if stopped.go_on_after > stopped.at else "as the clock was set back"
    if stopped.go_on_after > stopped.at or stopped.at.timestamp() * 1000 > now_ms():
        when = f" after {iso(stopped.go_on_after)}, {why},"
    return f"{said_so}, when this run was there already; start a new run{when} to go on"


async def _stopped(guard: GuardState, name: str, since: int, created: Created | None = None) -> StopSaid | None:
    """A stop of that rollout since then, or one that the flow run that was `created` had been queued at. One that
    cannot be read is refused by its number, and holds for whatever was there."""
    if guard.store.behind:  # maybe by a stop that was said at the guard's own address while the record was away
        await guard.store.written()
    stop_since = partial(guard.store.record.stop_since, name, guard.account, since, created)
    try:
        return await guard.store.call(stop_since)
    except StopDamaged as error:
        for row in error.rows:
            await refuse_damaged(guard, row)
    return await guard.store.call(stop_since)


async def _end_if_stopped(guard: GuardState, name: str, since: int) -> None:
    """Ends the open stage of that rollout where it was stopped since, also by who saw none."""
    stopped = await _stopped(guard, name, since)
    active = guard.active
    if stopped is not None and active is not None and active.row.rollout == name:
        end_stage(guard, active, by_people(stopped.who, stopped.why))


async def _known(guard: GuardState, name: str, stage_id: str) -> dict[str, Any] | None:
    """The open run of that rollout and stage, or its promoted one. Refused where it was burnt, or others are here."""
    record = guard.store.record
    busy = guard.active
    if busy is not None and busy.step not in (Step.PROMOTED, Step.ROLLED_BACK, Step.PARKED):
        if (busy.row.rollout, busy.row.stage) == (name, stage_id):
            return {"stage_run_id": busy.id, "step": busy.row.step}
        raise Refused(f"account {guard.account} is taken by {busy.row.rollout}/{busy.row.stage} ({busy.row.step})")
    earlier = [run for run in await guard.store.call(record.stage_runs, name) if run.stage == stage_id]
    if not earlier:
        return None
    last = earlier[-1]
    if last.step == Step.PROMOTED.value:
        return {"stage_run_id": last.id, "step": last.step}
    if last.step == Step.ROLLED_BACK.value:
        raise Refused(f"candidate {last.candidate[:12]} is burnt: it was rolled back by {last.decided_criterion}")
    return None


def candidate_of(guard: GuardState, name: str, plan_path: Path, payload: dict[str, Any]) -> tuple[Rollout, Plan]:
    """The candidate as the files are now, under its digest, and its plan. Raises Refused and what the loaders raise."""
    plan = load_plan(plan_path)
    refuse_made_up_people(load_approvers(under_root(plan.approvers)), plan.venue)
    settings = load_settings(under_root(plan.settings))
    if settings.venue.category != "linear":
        # The account's preflight, the desk, the watchdog and the take-down ask after contracts too, but this comes
        # first: a proof that a closing has ended needs to know what its end is.
        why = "nothing says how much of a wallet's coin is the rollout's, so that no closing could be proven flat"
        raise Refused(
            f"{plan.settings}: venue.category {settings.venue.category}; allowed in this version: linear: {why}"
        )
    access = load_account(guard.folder.root, guard.account)
    if access.venue != plan.venue:
        raise Refused(f"plan {plan.name} is for venue {plan.venue}, account {guard.account} is at {access.venue}")
    nonce = str(payload.get("nonce", ""))
    if plan.venue != SIMULATED:
        _refuse_other_hosts(plan, settings, access)
        own = STAND_IN if access.is_stand_in else ""
        if nonce not in ("", own):
            raise Refused(f"nonce {nonce[:80]!r} at venue {plan.venue}; allowed: none, so that no digest is tried anew")
        nonce = own
    # The bot will be started from the files as they are now, whatever was there when this guard started.
    code_version.cache_clear()
    signed, version = settings_digest(settings), code_version()
    whole = plan_digest(plan)
    rollout = Rollout(
        name=name,
        account=guard.account,
        plan_name=plan.name,
        plan_path=str(plan_path),
        plan_digest=whole,
        code_version=version,
        settings_digest=signed,
        nonce=nonce,
        candidate=candidate_digest(version, signed, whole, nonce),
        author=plan.author,
        requested_by=str(payload.get("requested_by", "")),
    )
    return rollout, plan


def _refuse_other_hosts(plan: Plan, settings: Settings, access: AccountAccess) -> None:
    """The bot goes where its settings say, the others where the account's file does. Refused where they differ."""
    if settings.venue.hosts != "by_mode":
        raise Refused(f"{plan.settings}: venue.hosts {settings.venue.hosts}; allowed in a rollout: by_mode")
    if access.env == "live" and access.gateway_host != settings.venue.gateway:
        said = f"account {access.account}: gateway {access.gateway_host or 'none'}"
        raise Refused(f"{said}; allowed: venue.gateway of {plan.settings}, {settings.venue.gateway or 'none'}")


async def _refuse_unfit(guard: GuardState, rollout: Rollout, plan: Plan, stage: Stage) -> bool:
    """Whether the stages before have passed with this digest, not too long ago. Raises Refused, by name."""
    if plan.venue != SIMULATED:
        _refuse_other_account(guard, plan, stage)
        if stage.env == "live":
            await _refuse_unready(guard, rollout, plan, stage)
    if plan.incumbent_account == guard.account:
        raise Refused(f"account {guard.account} is the incumbent's; allowed: a sub-account of the rollout's own")
    runs = await guard.store.call(guard.store.record.stage_runs)
    own = [run for run in runs if run.candidate == rollout.candidate]
    for account in sorted({guard.account, *(run.account for run in own)}):
        record = guard.store.record
        fault = await guard.store.call(record_fault, record, account)
        fault = fault or await guard.store.call(measurements_fault, record, account, rollout.candidate)
        if fault:
            raise Refused(f"the record was changed by hand: {fault}")
    if burnt := burnt_by(own):
        raise Refused(f"candidate {rollout.candidate[:12]} is burnt: {burnt}")
    if attempts_used(own, stage.id) >= plan.attempts_max:
        raise Refused(f"candidate {rollout.candidate[:12]} has used its {plan.attempts_max} attempts at {stage.id}")
    faults = [fault for one in plan.before(stage.id) if (fault := _not_passed(one, own, plan.max_age_s))]
    if faults and not stage.waive_predecessor:
        raise Refused(f"stage {stage.id} needs the stages before it passed with the same digest: {'; '.join(faults)}")
    if undrilled := await cannot_be_drilled(guard, stage, load_settings(under_root(plan.settings))):
        raise Refused(f"stage {stage.id} of {plan.name}: {'; '.join(undrilled)}")
    return bool(plan.before(stage.id)) and not faults  # a first stage asks whom its plan names


def _refuse_other_account(guard: GuardState, plan: Plan, stage: Stage) -> None:
    """At a real venue: the account must be one for that stage. Raises Refused, AccountFileError."""
    access = load_account(guard.folder.root, guard.account)
    asked = f"stage {stage.id} of {plan.name}: env {stage.env}, account {access.account} is for {access.env}"
    if stage.env in ENVS and access.env != stage.env:
        raise Refused(f"{asked}; allowed: an account for {stage.env}")
    if plan.keyless(stage) and access.gateway and access.env != "live":
        raise Refused(f"{asked} by a gateway, and shadow is on live data; allowed: one for live, or without a gateway")


async def _refuse_unready(guard: GuardState, rollout: Rollout, plan: Plan, stage: Stage) -> None:
    """What keeps a stage from live before any check is made, all of it named: what cannot be measured yet, and what
    people or drills still have to show for this candidate.

    What the shipped files say cannot be measured yet keeps a plan with files of its own from live as well, be it the
    shipped plan, edited in place.
    """
    said: list[str] = []
    files = {"criteria": SHIPPED_CRITERIA / f"{stage.id}.yaml", "checklist": SHIPPED_CHECKLIST, "parts": ()}
    shipped = stage.model_copy(update=files)
    if missing := dict.fromkeys(one.id for each in (stage, shipped) for one in cannot_be_measured(each)):
        said.append(f"not yet measurable: {', '.join(missing)} (`gates lint --plan` says what each needs)")
    approvers = load_approvers(under_root(plan.approvers))
    access = load_account(guard.folder.root, guard.account)
    facts = await guard.store.call(gather, guard.store.record, guard.seeds, guard.account, rollout.candidate, approvers)
    subject = Subject(
        access, plan, Path(rollout.plan_path), stage, rollout.settings_digest, rollout.code_version,
        rollout.plan_digest, guard.prometheus_url, guard.folder.root, rollout.candidate, approvers, facts,
    )  # fmt: skip
    asked = [one for one in checklist_of(stage).items if one.check in (DRILLED, ATTESTED)]
    for item in asked:
        good, value = await item_check(item, subject)
        if not good:
            said.append(f"{item.id}: {value}")
    if said:
        raise Refused(f"stage {stage.id} of {plan.name} does not start on live: {'; '.join(said)}")


def _not_passed(stage_id: str, own: Sequence[StageRun], max_age_s: float) -> str:
    """Why that stage does not count as passed by this candidate now, in words; empty where it does."""
    ended = [run.ended_at for run in own if run.stage == stage_id and run.step == Step.PROMOTED.value and run.ended_at]
    if not ended:
        return f"{stage_id} has not passed"
    age_s = (utc_now() - max(ended)).total_seconds()
    return "" if age_s <= max_age_s else f"{stage_id} passed {age_s:.0f} s ago, allowed: at most {max_age_s:g} s"


async def do_preflight(guard: GuardState, active: Active) -> None:
    """REQUESTED → PREFLIGHT → READY, or parked. Repeating it is safe: it only reads."""
    try:
        await _preflight(guard, active)
    except Exception as error:  # nobody waits for this task: a stage left at PREFLIGHT would stay there for ever
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        log.error("preflight of %s broke off: %s", active.row.rollout, words, exc_info=error)
        limit = "every check is made"
        end_stage(guard, active, Decision(Action.PARK, "environment", "preflight", None, limit, (), now_ms(), words))


async def _preflight(guard: GuardState, active: Active) -> None:
    if active.step is Step.REQUESTED:
        words = f"stage {active.row.stage}, candidate {active.row.candidate[:12]}"
        await guard.move(active, Happening.PREFLIGHT_BEGUN, [said(active, "requested", words)])
    rows = await preflight(await _subject(guard, active))
    await guard.store.call(guard.store.record.store_measurements, *_stored(active, rows))
    if active.step is not Step.PREFLIGHT:
        return
    if not passed(rows):
        bad = [row for row in rows if row.outcome is not Outcome.PASS]
        end_stage(guard, active, _parked("environment", bad[0], bad))
        return
    evidence = entry_evidence(active.rollout.plan_digest, active.rollout.candidate, rows)
    digest = hashlib.sha256(canonical_json(dict(evidence)).encode()).hexdigest()
    told, required = [], active.entry_sign_offs
    if required.people_count:
        words = wanted_words(active, "before the grant", required, digest)
        told.append(said(active, "sign_off_wanted", words, "entry"))
    await guard.move(active, Happening.PREFLIGHT_PASSED, told, ready_at=utc_now(), entry_digest=digest)


async def _subject(guard: GuardState, active: Active) -> Subject:
    approvers, candidate = active.approvers, active.rollout.candidate
    facts = None
    if approvers is not None:
        try:
            record, account = guard.store.record, guard.account
            facts = await guard.store.call(gather, record, guard.seeds, account, candidate, approvers)
        except (SQLAlchemyError, SeedsError) as error:  # then what needs them is UNKNOWN, by name
            log.error("what preflight needs of the record could not be read: %s", str(error).splitlines()[0])
    return Subject(
        access=active.access,
        plan=active.plan,
        plan_path=Path(active.row.plan_path),
        stage=active.stage,
        settings_digest=active.rollout.settings_digest,
        code_version=active.rollout.code_version,
        plan_digest=active.rollout.plan_digest,
        prometheus_url=guard.prometheus_url,
        disk=guard.folder.root,
        candidate=candidate,
        approvers=approvers,
        facts=facts,
        launch=launch_of(active, guard.folder.runs / "preflight"),
    )


async def refuse_what_changed(guard: GuardState, active: Active) -> None:
    """Before a launch: what was signed is not too old, and account and candidate are still as preflight found them.

    What people attested, and the drills, may have grown too old while others signed: that parks the stage, for only
    they can mend it. Raises Refused, by name; RefusedForNow where nothing is wrong, but something could not be seen.
    """
    ready_at, max_age_s = active.row.ready_at, active.plan.max_age_s
    age_s = None if ready_at is None else (utc_now() - ready_at).total_seconds()
    if age_s is None or age_s > max_age_s:
        words = "of unknown age" if age_s is None else f"{age_s:.0f} s old"
        raise Refused(f"the preflight that was signed is {words}, allowed: at most {max_age_s:g} s")
    owed = {one.id: one for one in checklist_of(active.stage).items if one.check in (DRILLED, ATTESTED)}
    subject = await _subject(guard, active)
    names = again_at_launch(subject) | owed.keys()
    rows = await preflight(subject, names)
    await guard.store.call(guard.store.record.store_measurements, *_stored(active, rows))
    bad = [row for row in rows if row.outcome is not Outcome.PASS]
    void = [row for row in bad if row.name in owed and row.outcome is Outcome.FAIL]
    if void:
        fault: Fault = "people" if owed[void[0].name].check == ATTESTED else "environment"
        end_stage(guard, active, _parked(fault, void[0], bad))
    if bad or len(rows) != len(names):
        words = "; ".join(_in_words(row) for row in bad)
        unseen = bad and len(rows) == len(names) and all(row.outcome is Outcome.UNKNOWN for row in bad)
        refused = RefusedForNow if unseen else Refused
        raise refused(f"not launched, what preflight found holds no more: {words or 'a check was not made'}")


def _in_words(row: Checked) -> str:
    return " ".join(filter(None, (row.name, row.outcome.value, row.value, row.detail)))


def _parked(fault: Fault, decisive: Checked, bad: Sequence[Checked]) -> Decision:
    """A preflight that does not pass: by the check that decides it, with the others that failed."""
    words = f"{decisive.title}: {decisive.outcome.value} {decisive.value} {decisive.detail}".strip()
    others = tuple(row.name for row in bad if row is not decisive)
    return Decision(Action.PARK, fault, decisive.name, None, decisive.limit, others, now_ms(), words)


def _stored(active: Active, rows: list[Checked]) -> tuple[list[MeasurementRow], list[MeasurementLatest]]:
    kept, latest = [], []
    order = {check[0]: ordinal for ordinal, check in enumerate(CHECKS)}
    for ordinal, row in enumerate(rows, start=len(CHECKS)):
        common: dict[str, Any] = {
            "stage_run_id": active.id,
            "criterion_id": row.name,
            "phase": "preflight",
            "at_ms": now_ms(),
            "outcome": row.outcome.value,
            "value": row.value or None,
            "limit": row.limit,
            "reason": row.detail or row.title,
        }
        kept.append(MeasurementRow(**common))
        latest.append(MeasurementLatest(**common, title=row.title, ordinal=order.get(row.name, ordinal) - 1000))
    return kept, latest


def _word(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Refused(f"{name}: {value!r}, needs a word")
    return value
