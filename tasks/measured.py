"""The measurements that belong to a decision: the newest of each criterion while the bot had its grant.

After the grant is revoked the guard still measures until the bot is proven gone, and of course finds no fresh grant.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.record import Record
from tasks.record_tables import MeasurementLatest, MeasurementRow, StageRun


def measured_until_stopped(record: Record, run: StageRun) -> Sequence[MeasurementLatest]:
    """In the order of the criteria file; of those measured again after the revocation, the last one before it."""
    latest = record.measurements_latest(run.id or 0)
    if run.grant_revoked_at is None:
        return latest
    revoked_ms = int(run.grant_revoked_at.timestamp() * 1000)
    before = {row.criterion_id: row for row in record.measurements(run.id or 0) if row.at_ms <= revoked_ms}
    return [_as_decided(one, before.get(one.criterion_id), run, revoked_ms) for one in latest]


def _as_decided(
    one: MeasurementLatest, kept: MeasurementRow | None, run: StageRun, revoked_ms: int
) -> MeasurementLatest:
    if one.criterion_id == run.decided_criterion:  # what decided is shown as it was decided
        decided = {"outcome": "UNKNOWN" if run.decided_value is None else "FAIL", "value": run.decided_value}
        return MeasurementLatest(**{**one.model_dump(), **(decided if one.outcome == "PASS" else {})})
    if one.at_ms <= revoked_ms or kept is None:
        return one
    fields = {"outcome": kept.outcome, "cause": kept.cause, "value": kept.value, "at_ms": kept.at_ms}
    return MeasurementLatest(**{**one.model_dump(), **fields, "limit": kept.limit, "reason": kept.reason})
