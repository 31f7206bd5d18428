"""How much a live day adds to the tables, by the real plan's criteria and intervals."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from sqlmodel import SQLModel

from gates.criteria import Criterion
from gates.judge import Measurement, Reading, Sample, judge
from gates.stages import ROOT, criteria_of, load_plan
from tasks.guard.keeping import Kept, measurement_row
from tasks.record import Record
from tasks.record_engine import open_engine
from tasks.record_tables import Rollout, StageRun
from tasks.record_writer import RecordWriter

DAY_MB_MAX = 50.0
AT_MS = 1_800_000_000_000
FINAL_EVERY_S = 5
SEED = 1
SETTLED_S, LOOKED_S = 60, 600
"""Looked at for ten minutes: in three of them one page of the file more or less is 2 MB a day."""
MOVING = {
    *("stale_book", "quotes_on_stale_book", "pnl_guard", "candidate_pnl_24h", "two_sided_quoting_hour", "pnl"),
    *("orders_are_placed", "placed", "filled", "order_latency_p99", "order_latency_p99_target", "edge", "fill_rate"),
    *("attempt_pnl", "stage_pnl", "two_sided_quoting", "memory_growth", "uptime", "held_or_frozen"),
}
"""What was seen to move at nearly every look of a healthy bot. Counts of what must not happen stand still."""


@pytest.mark.parametrize("stage", ["canary", "soak"])
def test_a_live_day_adds_less_than_50_mb(tmp_path: Path, stage: str) -> None:
    writer = RecordWriter(Record(open_engine(f"sqlite:///{tmp_path}/rollout.db")), "a")
    SQLModel.metadata.create_all(writer.engine)
    told = dict.fromkeys(("plan_name", "plan_path", "plan_digest", "code_version", "settings_digest", "nonce"), "x")
    people = {"author": "x", "requested_by": "x"}
    writer.add_rollout(Rollout.model_validate({"name": "r", "account": "a", "candidate": "c", **told, **people}))
    row = StageRun(rollout="r", account="a", stage=stage, attempt=1, step="watch", candidate="c", plan_path="p")
    writer.add_stage_run(row)
    criteria = [
        one
        for one in criteria_of(load_plan(ROOT / "configs" / "rollout.yaml").stage(stage))
        if one.phase in ("guard", "final")
    ]
    assert len(MOVING & {one.id for one in criteria}) >= 10, "the criteria have other names now"
    kept, sizes, draws = Kept(), [], Random(SEED)
    for second in range(SETTLED_S + LOOKED_S + 1):
        due = [one for one in criteria if second % _every_s(one) == 0]
        found = [kept.worth(1, one, _looked(one, stage, second, draws)) for one in due]
        worth = [one for one in found if one is not None]
        rows = [measurement_row(1, one) for one in worth]
        writer.store_measurements(rows, [])
        for one, written in zip(worth, rows, strict=True):
            if one.shared is not None:
                one.shared.id = written.id
        if second in (SETTLED_S, SETTLED_S + LOOKED_S):
            sizes.append(_size_mb(writer))
    writer.close()
    day_mb = (sizes[1] - sizes[0]) / LOOKED_S * 86_400
    assert 1 < day_mb < DAY_MB_MAX


def _every_s(one: Criterion) -> int:
    return round(one.every_s) if one.phase == "guard" else FINAL_EVERY_S


def _looked(one: Criterion, stage: str, second: int, draws: Random) -> Measurement:
    at_ms = AT_MS + 1000 * second
    value = Decimal(str(round(draws.random(), 6))) if one.id in MOVING else Decimal(0)
    query = one.query or one.check or ""
    for name, said in (
        ("account", "sim-1"),
        ("rollout", "full-20260101-000000"),
        ("stage", stage),
        ("window", "86400s"),
    ):
        query = query.replace(f"${name}", said)
    sample = Sample(at_ms - 300, value, {"symbol": "BTCUSDT"})
    return judge(one, Reading(one.id, at_ms, 12, query, (sample,)), at_ms)


def _size_mb(writer: RecordWriter) -> float:
    with writer.engine.connect() as connection:
        size, pages, free = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_size", "page_count", "freelist_count")
        )
    return size * (pages - free) / 1e6
