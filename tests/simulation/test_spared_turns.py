"""A turn of the clock that looks at nothing but quotes would have found nothing else: in whole runs, to the byte."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bot.engine.engine import Engine
from bot.simulation import START_NS, Scenario, run_kernel, run_wire
from bot.simulator.market import GeneratedMarket
from bot.simulator.timeline import NS_PER_S
from tests.bench.feed import MARKET
from tests.bench.month import NOBODY_HALTS, calm
from tests.bench.soak import scenario
from tests.support.digests import Digest, scenarios
from tests.support.lanes import at_one_a_second, demo

CALM = scenario("calm", 1_200, 2, market=calm, tick_s=1.0, finished_kept_s=60, **NOBODY_HALTS)
RUNS = scenarios(few=True) | {
    "calm, one a second": (False, CALM),
    "loss, soon stale": (False, demo(4, 60, faults_at_s={20: ("loss", {})}, stale_after_ms=400)),
    "slow, grant lost": (False, demo(6, 300, market=at_one_a_second, tick_s=1.0, granted_s=200, flatten_after_s=5)),
}
NAMED = [name for name in RUNS if "heavy" not in name]


def _run(wanted: Scenario, *, on_wire: bool, folder: Path) -> str:
    digest = Digest()
    folder.mkdir()
    return digest.end(run_wire(wanted, folder, digest) if on_wire else run_kernel(wanted, digest))


@pytest.mark.parametrize("name", NAMED)
def test_runs_in_which_every_turn_is_a_whole_one_are_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_wire, wanted = RUNS[name]
    sparing = _run(wanted, on_wire=on_wire, folder=tmp_path / "sparing")
    monkeypatch.setattr(Engine, "_nothing_new", lambda _: False)
    assert _run(wanted, on_wire=on_wire, folder=tmp_path / "thorough") == sparing


def test_most_turns_of_a_calm_market_are_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    nothing_new = Engine._nothing_new

    def counted(engine: Engine) -> bool:
        asked.append(nothing_new(engine))
        return asked[-1]

    monkeypatch.setattr(Engine, "_nothing_new", counted)
    run_kernel(CALM)
    assert sum(asked) > 900


def test_who_looks_daily_sees_the_end_of_each_day_and_changes_nothing() -> None:
    slow = partial(GeneratedMarket, parameters=replace(MARKET, step_ns=60 * NS_PER_S))
    wanted = demo(4, 2 * 86_400 + 60, market=slow, tick_s=60.0, granted_s=1)
    seen: list[int] = []
    digest, looked_at = Digest(), Digest()
    alone = digest.end(run_kernel(wanted, digest))
    beside = run_kernel(wanted, looked_at, daily=lambda engine: seen.append(engine.known.now_ns))
    assert [(at_ns - START_NS) / NS_PER_S for at_ns in seen] == pytest.approx([86_400, 2 * 86_400], abs=60)
    assert looked_at.end(beside) == alone
