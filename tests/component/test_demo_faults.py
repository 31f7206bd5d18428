"""`FAULT=kind@stage`: from what is typed to the stage in whose watch it is made to happen, once, and in no other."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from flows import demo
from flows.__main__ import parser
from flows.demo import FAULT_AFTER_S, Demo, Wish
from flows.demo_command import wish_of
from flows.demo_view import View
from gates.stages import ROAD, ROOT, load_plan
from tasks.record_tables import StageRun, utc_now
from tasks.state_folder import StateFolder
from tasks.supervise.table import Table

SMOKE = ROOT / "configs" / "rollout.smoke.yaml"


def _wish(*words: str) -> Wish:
    options = parser().parse_args(["demo", *words])
    options.stage = options.stage or "full"
    return wish_of(options, load_plan(SMOKE), SMOKE)


def test_make_hands_the_fault_on_as_it_is_typed() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "rollout", "FAULT=crash@soak"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert '--fault "crash@soak"' in done.stdout


@pytest.mark.parametrize(
    ("words", "fault", "stage"),
    [
        (("--fault", "crash@soak"), "crash", "soak"),
        (("--fault", "stall@scale-up"), "stall", "scale-up"),
        (("--fault", "crash"), "crash", "canary"),
        (("--fault", "loss", "--stage", "soak"), "loss", "soak"),
        ((), None, "canary"),
    ],
)
def test_a_fault_is_wished_for_at_its_stage(words: tuple[str, ...], fault: str | None, stage: str) -> None:
    wish = _wish(*words)
    assert (wish.fault, wish.fault_stage) == (fault, stage)


def test_it_happens_in_the_watch_of_that_stage_alone_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str, str, float | None]] = []
    ago_s: float | None = None

    def inject(kind: str, folder: StateFolder, table: Table, run: StageRun) -> str:
        made.append((kind, run.stage, run.step, ago_s))
        return "done"

    monkeypatch.setattr(demo, "inject", inject)
    with (tmp_path / "told").open("w") as told:
        running = Demo(StateFolder(tmp_path), _wish("--fault", "crash@soak"), View(told))
        for stage in ROAD:
            for step, since_s in (("warm_up", None), ("watch", 0.0), ("watch", FAULT_AFTER_S + 1), ("watch", 60.0)):
                ago_s = since_s
                begun = None if ago_s is None else utc_now() - timedelta(seconds=ago_s)
                names = {"rollout": "r", "account": "a", "attempt": 1, "candidate": "c", "plan_path": "p"}
                run = StageRun(**names, stage=stage, step=step, watch_from=begun)
                running._inject_when_due(cast(Table, None), run)
    assert made == [("crash", "soak", "watch", FAULT_AFTER_S + 1)]
