"""The judgement at the end of the watch: every source asked once more, the verdict written, the evidence built."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from gates.course import Happening, Step
from gates.criteria import Criterion
from gates.decision import CONTINUE, Action, Decision, decide_final, decide_guard
from gates.judge import Measurement, Verdict, plain, verdict
from tasks.evidence_process import KEPT_ENVIRONMENT, EvidenceFailed, build_evidence
from tasks.guard.asking import wanted_words
from tasks.guard.closing import end_stage
from tasks.guard.keeping import store_now
from tasks.guard.looking import measure_now
from tasks.guard.parts import may_step_down, step_down
from tasks.guard.readings import data_check_file
from tasks.guard.spent import refuse_burnt
from tasks.guard.state import Active, GuardState, Refused, RefusedForNow, now_ms, said
from tasks.record_tables import VerdictRow, utc_now
from tasks.state_folder import REPOSITORY

log = logging.getLogger("slipway.guard.judging")
DATA_CHECK_DEADLINE_S = 60.0
TURN_WITHIN_S = 1200.0
"""How long a data check waits for those of other accounts, twenty of them at their deadline: all at once end none."""
TURN_ASKED_EVERY_S = 0.2


async def judge_stage(guard: GuardState, active: Active) -> dict[str, Any]:
    """WATCHED → JUDGED, WATCH (prolonged once) or the end. Returns the verdict's word and the step reached.

    Raises Refused where there is nothing to judge: nothing was watched, or the candidate was burnt on another account.
    """
    if active.step in (Step.JUDGED, Step.PROMOTING, Step.PROMOTED):
        return {"word": active.row.verdict, "step": active.row.step}
    if active.step is not Step.WATCHED:
        raise Refused(f"there is nothing to judge yet: the stage is {active.row.step}, judged is what was watched")
    if active.launching or active.history is None:  # a bot that has no grant yet looks bad, by the guard's doing
        raise RefusedForNow("the guard has come back and is adopting the bot: ask again")
    await refuse_burnt(guard, active)
    checks = {one for one in (active.data_check, active.repeat_check) if one is not None}
    if checks:
        await asyncio.wait(checks, timeout=TURN_WITHIN_S + DATA_CHECK_DEADLINE_S)
    criteria = [one for one in active.criteria if one.phase in ("guard", "final")]
    measured = await measure_now(guard, active, criteria)
    await store_now(guard, active, measured)
    found = verdict(criteria, [one for _, one in measured])
    active.refuse_unless(Step.WATCHED)
    decision, broken = decide_final(found, active.prolonged, now_ms()), _guards_say(active, measured)
    await _write(guard, active, found)
    if broken.action is not Action.CONTINUE:  # a guard's NO-GO outranks every verdict, and leads to no plateau
        end_stage(guard, active, broken)
    elif decision.action is Action.CONTINUE:
        await _pass(guard, active)
    elif decision.action is Action.PROLONG:
        await _prolong(guard, active)
    elif active.step is Step.WATCHED and await may_step_down(guard, active, decision):
        await step_down(guard, active, decision)
    elif active.step is Step.WATCHED:
        end_stage(guard, active, decision)
    decided_by = broken.criterion_id or decision.criterion_id
    return {"word": found.word.value, "step": active.row.step, "decided_by": decided_by}


def _guards_say(active: Active, measured: Sequence[tuple[Criterion, Measurement]]) -> Decision:
    """What follows from this look for the guard itself, whose loops may not have seen it yet."""
    if active.history is None:
        return CONTINUE
    # Later than the loops' own looks of meanwhile, where the record took its time.
    active.history = active.history.after((one for criterion, one in measured if criterion.phase == "guard"), now_ms())
    return decide_guard(active.criteria, active.history, now_ms())


async def _write(guard: GuardState, active: Active, found: Verdict) -> None:
    worst = found.decided_by
    body = {
        "measurements": [
            {
                "criterion": one.criterion_id,
                "outcome": one.outcome.value,
                "value": None if one.value is None else plain(one.value),
                "limit": one.limit,
                "reason": one.reason,
            }
            for one in found.measurements
        ],
        "others": [one.criterion_id for one in found.others],
    }
    decided_by = worst.criterion_id if worst else None
    row = VerdictRow(stage_run_id=active.id, word=found.word.value, decided_by=decided_by, body=body)
    await guard.store.call(guard.store.record.add_verdict, row)
    active.row.verdict = found.word.value


async def _pass(guard: GuardState, active: Active) -> None:
    """GO: the evidence that people will sign is built and hashed before they are asked."""
    record = guard.store.record
    try:
        built = await build_evidence(guard.folder, record, active.row, guard.prometheus_url, "judged")
    except EvidenceFailed as error:
        raise RefusedForNow(f"the verdict is GO, but its evidence could not be built: {error}") from error
    active.refuse_unless(Step.WATCHED)
    await guard.store.call(record.add_evidence, active.id, built.files)
    active.refuse_unless(Step.WATCHED)
    told = [said(active, "go", f"GO: every critical criterion passed; evidence {built.digest[:6]}", active.visit)]
    if active.stage.exit_sign_offs.people_count:
        words = wanted_words(active, "to promote", active.stage.exit_sign_offs, built.digest)
        told.append(said(active, "sign_off_wanted", words, f"exit {active.visit}"))
    await guard.move(
        active,
        Happening.JUDGED_GO,
        told,
        verdict="GO",
        judged_at=utc_now(),
        reminded_at=None,
        evidence_dir=str(built.folder.parent),
        evidence_digest=built.digest,
    )


async def _prolong(guard: GuardState, active: Active) -> None:
    """HOLD the first time: watched for a share longer, once, with a fresh data check."""
    active.refuse_unless(Step.WATCHED)
    more_s = active.stage.lasts_s * float(active.stage.prolong_share)
    told = [said(active, "hold", f"HOLD: prolonged once by {more_s:g} s", active.visit)]
    watch_until = utc_now() + timedelta(seconds=more_s)
    await guard.move(active, Happening.PROLONGED, told, verdict="HOLD", watch_until=watch_until)
    active.prolonged, active.data_check = True, None  # what is not written has prolonged nothing, and is asked again


async def run_data_check(guard: GuardState, active: Active) -> None:
    """The Great Expectations check in a process of its own, one at a time on a machine; its result file is what the
    criterion reads."""
    out, state_dir = data_check_file(active), active.state_dir
    if out is None or state_dir is None:
        return
    out.unlink(missing_ok=True)
    asked = time.monotonic()
    with (guard.folder.root / "data_check.lock").open("w") as turn:
        await _take(turn)
        begun = time.monotonic()
        code = await _run_to_file(state_dir / "journal.db", out)
    log.info("data check ended with %s after %.1f s and %.1f s", code, begun - asked, time.monotonic() - begun)


async def _take(turn: TextIO) -> None:
    """Without it after a while: whoever holds it then is not known to be at work."""
    end = time.monotonic() + TURN_WITHIN_S
    while time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        await asyncio.sleep(TURN_ASKED_EVERY_S)


async def _run_to_file(journal: Path, out: Path) -> int | None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gates.sources.great_expectations_journal", "--journal", str(journal), "--out", str(out)),
        cwd=REPOSITORY,
        env={name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return await asyncio.wait_for(process.wait(), DATA_CHECK_DEADLINE_S)
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
