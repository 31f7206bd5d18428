"""The guard's history from the tables: a guard that comes back goes on counting where the one before it stood.

Every change of value or outcome was stored with the samples it was judged from and with what it was judged to be, so
the stored rows give the same streaks, since-times included. Only the rows since a criterion's last good one matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from gates.criteria import Criterion
from gates.decision import GuardHistory
from gates.judge import Cause, Measurement, Outcome, judge
from gates.replay import stored_reading
from tasks.guard.drilled import SILENCED
from tasks.guard.state import Active, GuardState, now_ms
from tasks.record_tables import Drill, MeasurementLatest, MeasurementRow


async def restored_history(guard: GuardState, active: Active) -> GuardHistory:
    """What guard criteria have shown since the launch, whichever guard measured it; empty before the launch."""
    record, launched_at = guard.store.record, active.row.launched_at
    rows = await guard.store.call(record.measurements_since_good, active.id)
    at_ms = now_ms()
    drills = await guard.store.call(record.drills, active.id)
    silenced = silenced_spans([one for one in drills if one.outcome or one.part == active.drilled_part], at_ms)
    part_from_ms = _ms(active.row.part_from) if active.row.part_from else 0
    blind_before_ms = await guard.store.call(record.blind_before_good_ms, active.id, silenced, part_from_ms)
    latest = await guard.store.call(record.measurements_latest, active.id)
    for one in latest:  # an adoption that tries again has looked meanwhile, and the table may not tell of it yet
        active.looked_ms[one.criterion_id] = max(one.at_ms, active.looked_ms.get(one.criterion_id, 0))
    if launched_at is not None:
        begun = max(launched_at, active.row.part_from or launched_at)  # a later part has criteria of its own
        started_at_ms = round(begun.timestamp() * 1000)
    else:
        started_at_ms = min((row.at_ms for row in rows), default=at_ms)
    history = told_again(active.criteria, rows, latest, started_at_ms, at_ms, silenced, part_from_ms)
    share = float(active.plan.blind_share)
    return replace(history, lasts_s=active.stage.lasts_s, blind_share=share, blind_before_ms=blind_before_ms)


def told_again(
    criteria: Sequence[Criterion],
    rows: Iterable[MeasurementRow],
    latest: Iterable[MeasurementLatest],
    started_at_ms: int,
    resumed_at_ms: int,
    silenced: Sequence[tuple[int, int]] = (),
    part_from_ms: int = 0,
) -> GuardHistory:
    """The history that `rows` (oldest first) tell; `latest` says when each was last measured without a change.

    `silenced`: when drills kept the bot from answering, from and to in ms: what was unseen then counts for nobody.
    `part_from_ms`: since when it stands in its part, which what was unseen before is not held against.
    """
    by_id = {one.id: one for one in criteria}
    told = [_measurement(by_id[row.criterion_id], row) for row in rows if row.criterion_id in by_id]
    earlier = _after(
        GuardHistory(started_at_ms, resumed_at_ms=resumed_at_ms),
        [one for one in told if one.at_ms < part_from_ms],
        [one for one in silenced if one[0] < part_from_ms],
    )
    history = _after(
        earlier.in_next_part(),
        [one for one in told if one.at_ms >= part_from_ms],
        [one for one in silenced if one[0] >= part_from_ms],
    )
    seen_at_ms = {one.criterion_id: one.at_ms for one in latest}
    return history.after(_seen_again(history, seen_at_ms))


def _after(history: GuardHistory, told: Sequence[Measurement], silenced: Sequence[tuple[int, int]]) -> GuardHistory:
    for began_ms, ended_ms in silenced:
        before = history.after(one for one in told if one.at_ms < began_ms)
        during = [one for one in told if began_ms <= one.at_ms <= ended_ms]
        history = before.after(during).seen_since(began_ms, before, ended_ms)
        told = [one for one in told if one.at_ms > ended_ms]
    return history.after(told)


def silenced_spans(drills: Iterable[Drill], at_ms: int) -> list[tuple[int, int]]:
    """When drills have kept the bot from answering, from and to in ms, oldest first; one that lasts until `at_ms`."""
    spans = [
        (_ms(one.started_at), at_ms if one.ends_at is None else _ms(one.ends_at))
        for one in drills
        if one.name in SILENCED
    ]
    return sorted(spans)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _seen_again(history: GuardHistory, seen_at_ms: Mapping[str, int]) -> list[Measurement]:
    """An unchanged measurement leaves no row: the last one, at the time it was last made."""
    lasts = (streak.last for streak in history.streaks.values())
    return [
        replace(last, at_ms=at_ms) for last in lasts if (at_ms := seen_at_ms.get(last.criterion_id, 0)) > last.at_ms
    ]


def _measurement(criterion: Criterion, row: MeasurementRow) -> Measurement:
    """As it was judged then: a row of an earlier part stands for other bands, and this part has looks of its own."""
    one = judge(criterion, stored_reading(row.criterion_id, row.query, row.raw), row.at_ms)
    cause = None if row.cause is None else Cause(row.cause)
    return replace(one, outcome=Outcome(row.outcome), cause=cause, limit=row.limit, reason=row.reason)
