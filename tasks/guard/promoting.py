"""Whether a judged and signed stage is promoted, asked at the moment of promotion: nothing is taken from before.

Missing data is never a pass: a criterion that cannot be seen now refuses, by name, and who asks may ask again.
"""

from __future__ import annotations

import logging
from typing import Any

from gates.course import Happening, Step
from gates.decision import Action, decide_guard
from gates.judge import Word, verdict
from tasks.guard.closing import end_stage, promote
from tasks.guard.keeping import store_now
from tasks.guard.looking import measure_now
from tasks.guard.parts import next_part
from tasks.guard.spent import refuse_burnt
from tasks.guard.standing import refuse_other_evidence, refuse_other_measurements, refuse_what_was_changed
from tasks.guard.state import Active, GuardState, Refused, now_ms
from tasks.record_tables import utc_now

log = logging.getLogger("slipway.guard.promoting")


async def promote_stage(guard: GuardState, active: Active) -> dict[str, Any]:
    """JUDGED → PROMOTING. Raises Refused, by name of what is missing; the end of the stage where that is a NO-GO."""
    if active.step in (Step.PROMOTING, Step.PROMOTED):
        return {"step": active.row.step}
    if not active.at(Step.JUDGED) or active.row.verdict != "GO":
        raise Refused(f"only a stage with verdict GO is promoted: it is {active.row.step} ({active.row.verdict})")
    if active.launching or active.history is None:
        raise Refused("the guard has come back and is adopting the bot: ask again")
    await refuse_burnt(guard, active)  # also where no window is open: the end of a stage never waits for one
    last = active.row.part == active.whole.part_count - 1
    if needs_window(active):
        _window_is_open(active)
    await refuse_what_was_changed(guard, active)
    quorum = await guard.store.call(guard.desk.quorum, active.gate("exit"))
    if not quorum.complete:
        raise Refused(f"exit sign-offs are missing: {', '.join(quorum.missing)}")
    await refuse_other_evidence(guard, active)
    await refuse_other_measurements(guard, active)
    await _all_pass_now(guard, active)
    await refuse_burnt(guard, active)  # looking took its time
    if not last:
        await next_part(guard, active)
        return {"step": active.row.step, "part": active.part_name}
    since_ms = now_ms()
    await guard.move(active, Happening.PROMOTE_ASKED, replicas_frozen=True)
    if active.at(Step.PROMOTING):
        active.promoting_since_ms = since_ms
        promote(guard, active)
    return {"step": active.row.step}


def needs_window(active: Active) -> bool:
    """Whether what comes next waits for a promotion window: on live every part, before it the last alone."""
    return active.stage.env == "live" or active.row.part == active.whole.part_count - 1


def _window_is_open(active: Active) -> None:
    """Outside its windows a rollout waits; a rollback never does, and does not come by here. Raises Refused."""
    now, windows = utc_now(), active.plan.promotion
    if closed := windows.closed_because(now):
        opens = windows.next_open(now)
        said = "it does not open within two months" if opens is None else f"it opens {opens:%A %Y-%m-%d %H:%M} UTC"
        raise Refused(f"no promotion now: {closed}; {said}")


async def _all_pass_now(guard: GuardState, active: Active) -> None:
    guards = [one for one in active.criteria if one.phase == "guard"]
    measured = await measure_now(guard, active, guards)
    await store_now(guard, active, measured)
    if active.history is not None and active.at(Step.JUDGED):
        # Later than the loops' own looks of meanwhile, where the record took its time.
        active.history = active.history.after((one for _, one in measured), now_ms())
        decision = decide_guard(active.criteria, active.history, now_ms())
        if decision.action is not Action.CONTINUE:
            end_stage(guard, active, decision)
    active.refuse_unless(Step.JUDGED)
    found = verdict(guards, [one for _, one in measured])
    if found.word is not Word.GO:
        worst = found.decided_by
        said = "no critical criterion" if worst is None else f"{worst.criterion_id} {worst.outcome.value}"
        why = "" if worst is None else f" ({worst.reason})"
        log.info("not promoted: %s%s", said, why)
        raise Refused(f"every critical criterion must PASS at the moment of promotion: {said}{why}; ask again")
