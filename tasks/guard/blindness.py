"""The end of a watch: what of it nobody saw is made up for, once; where too much is missing, it is parked."""

from __future__ import annotations

import logging
from datetime import timedelta

from gates.blind import Seen, blind_ms, blindest, decide_watched
from gates.course import Step
from gates.decision import Action
from tasks.guard.closing import end_stage
from tasks.guard.state import Active, GuardState, now_ms, said

log = logging.getLogger("slipway.guard.blindness")
WRITTEN_WITHIN_S = 2.0
"""Longer it does not hold up who asks something else of the stage. It is looked at again at the next turn."""


async def watch_is_whole(guard: GuardState, active: Active) -> bool:
    """Whether the watch, whose time is over, may be judged. Else it has been prolonged, or the stage is being ended.

    From the tables alone, so that a guard that comes back finds the same. Raises what the record raises.
    """
    row, stage, record = active.row, active.stage, guard.store.record
    if row.watch_from is None or row.watch_until is None:
        return True
    from_ms, at_ms = round(row.watch_from.timestamp() * 1000), now_ms()
    if not await guard.store.written_within(WRITTEN_WITHIN_S):  # a look that is not written yet was made all the same
        return False
    told = await guard.store.call(record.seen_of_guards, active.id, from_ms)
    if not active.at(Step.WATCH):
        return False
    seen = [Seen(*one) for one in told]
    round_s = active.plan.measure_every_s
    unseen_ms = blind_ms(active.criteria, seen, from_ms, at_ms, round_s)
    longest = blindest(active.criteria, seen, from_ms, at_ms, round_s)
    prolonged_s = (row.watch_until - row.watch_from).total_seconds() - stage.lasts_s
    decision = decide_watched(unseen_ms, stage.lasts_s, active.plan.blind_share, round(prolonged_s, 3), at_ms, longest)
    if decision.action is Action.PARK:
        end_stage(guard, active, decision)
    elif decision.action is Action.PROLONG and decision.value is not None:
        until = row.watch_until + timedelta(seconds=float(decision.value))
        words = f"HOLD: {decision.sentence}, prolonged once by {decision.value:f} s ({decision.limit})"
        log.warning("%s", words)
        told_of = [said(active, "hold", words, f"blind {active.visit}")]
        await guard.store.call(record.change_stage_run, active.id, "prolonged", told_of, watch_until=until)
        row.watch_until = until
    return decision.action is Action.CONTINUE
