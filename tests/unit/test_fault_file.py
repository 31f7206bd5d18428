"""Plans of faults: read and refused in one line, the same under one seed, in the order of time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bot.simulator.fault_file import fault_file, load_fault_file
from bot.simulator.fault_kinds import KINDS
from bot.simulator.faults import FaultPlan, FaultRefused, Pushes, Way

FOLDER = Path(__file__).parents[2] / "configs" / "faults"
ONE: dict[str, Any] = {"kind": "disconnect", "stream": "public", "at_s": 2, "every_s": 5, "spread_s": 1}


def plan(*faults: object, **changes: object) -> dict[str, Any]:
    return {"name": "p", "seed": 3, "faults": list(faults), **changes}


def test_every_plan_that_is_shipped_can_be_used_and_together_they_have_every_kind() -> None:
    plans = [load_fault_file(path) for path in sorted(FOLDER.glob("*.yaml"))]
    assert [one.name for one in plans] == [path.stem for path in sorted(FOLDER.glob("*.yaml"))]
    used = {fault.kind for one in plans for fault in one.faults}
    drills = {"crossing", "loss_over", "refuse_create"}
    assert used == set(KINDS) - drills


def test_what_comes_again_and_again_repeats_under_the_seed_and_differs_under_another() -> None:
    first, again, other = (fault_file(plan(ONE, seed=seed)).until(60) for seed in (3, 3, 4))
    assert first == again != other
    times = [due.at_ns for due in first]
    assert times == sorted(times)
    assert 10 <= len(times) <= 14
    gaps_s = [(after - before) / 1e9 for before, after in pairwise(times)]
    assert all(4 <= gap <= 6 for gap in gaps_s)


def test_two_faults_come_in_the_order_of_their_times() -> None:
    later = {"kind": "venue_restart", "at_s": 1.5}
    assert [due.kind for due in fault_file(plan(ONE, later)).until(3)] == ["venue_restart", "disconnect"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "not a mapping with name, seed and faults"),
        (plan(ONE, sed=3), "sed: unknown key; allowed are name, seed, faults"),
        (plan(ONE, name=""), "name: '' is no name"),
        (plan(ONE, seed=-1), "seed: -1 is outside 0 to"),
        (plan(), r"faults: \[\] is no list of faults"),
        (plan("stall"), r"faults\[0\]: 'stall' is no fault"),
        (plan({"kind": "rain"}), r"faults\[0\].kind: 'rain' is not one of crossing"),
        (plan(ONE, {**ONE, "stream": "all of them"}), r"faults\[1\].stream: 'all of them' is not one of public"),
        (plan({**ONE, "speed": 1}), r"faults\[0\].speed: unknown parameter of disconnect; allowed are account, symbol"),
        (plan({**ONE, "at_s": -1}), r"faults\[0\].at_s: -1 is outside 0 to 2592000 seconds"),
        (plan({**ONE, "every_s": True}), r"faults\[0\].every_s: True is outside"),
        (plan({**ONE, "spread_s": 5}), r"faults\[0\].spread_s: 5.0 is not below every_s 5.0"),
        (plan({"kind": "way", "lost_pct": 101}), r"faults\[0\].lost_pct: '101' is outside 0 to 100"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused_with_the_entry_and_what_is_allowed(content: Any, words: str) -> None:
    with pytest.raises(FaultRefused, match=words) as caught:
        fault_file(content)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "no.yaml").write_text("name: [")
    for path, words in ((tmp_path / "no.yaml", "no YAML"), (tmp_path / "gone.yaml", "cannot be read")):
        with pytest.raises(FaultRefused, match=f"{path.name}: {words}"):
            load_fault_file(path)


def test_a_private_stream_loses_nothing_without_being_cut() -> None:
    faults = FaultPlan(1)
    with pytest.raises(FaultRefused, match="lost_pct: a private stream loses nothing"):
        faults.arm("way", "", {"way": "private", "lost_pct": 1}, 0)
    assert not faults.armed


@pytest.mark.parametrize("name", ["doubled_pct", "swapped_pct", "delay_ms", "jitter_ms"])
def test_a_harm_of_messages_that_are_all_lost_is_refused_because_it_could_do_nothing(name: str) -> None:
    faults = FaultPlan(1)
    with pytest.raises(FaultRefused, match=f"{name}: does nothing to messages that are all lost"):
        faults.arm("way", "", {"way": "request", "lost_pct": 100, name: 1}, 0)
    assert not faults.armed
    faults.arm("way", "", {"way": "request", "lost_pct": 99, name: 1}, 0)


@pytest.mark.parametrize(
    ("stream", "heard"),
    [("public", ["private", "answer"]), ("private", ["answer"]), ("trade", ["private"]), ("all", [])],
)
def test_a_stall_silences_the_sockets_that_it_names_and_no_other(stream: str, heard: list[str]) -> None:
    faults = FaultPlan(1)
    sent: list[str] = []
    ways: tuple[Way, ...] = ("private", "answer")
    sockets = {way: Pushes(faults, way, sent.append) for way in ways}
    faults.arm("stall", "", {"stream": stream}, 0)
    for way, pushes in sockets.items():
        pushes(way)
    assert sent == heard
    assert faults.stalled == (stream in ("public", "all"))
    faults.arm("unstall", "", {}, 0)
    sockets["answer"]("after")
    assert sent == [*heard, "after"]


def test_what_ends_a_plan_ends_everything_that_lasts() -> None:
    faults = FaultPlan(1)
    arms: dict[str, dict[str, object]] = {
        "way": {"way": "push", "doubled_pct": 100}, "latency_ms": {"ms": 5}, "stall": {"stream": "all"},
        "clock_skew": {"ms": 9}, "venue_restart": {"lasts_s": 60}, "rate_limit_storm": {"lasts_s": 60},
    }  # fmt: skip
    for kind, parameters in arms.items():
        faults.arm(kind, "", parameters, 0)
    sent: list[str] = []
    pushes = Pushes(faults, "private", sent.append)
    trade = Pushes(faults, "answer", sent.append)
    pushes("muted")
    trade("muted")
    assert (faults.skew_ns, faults.storm(1), faults.is_down(1)) == (9_000_000, 429, True)
    faults.calm()
    pushes("heard")
    trade("answered")
    assert sent == ["heard", "answered"]
    assert (faults.skew_ns, faults.storm(1), faults.is_down(1), faults.latency_ns()) == (0, None, False, 0)
    assert not faults.stalled
    assert len(faults.of_account("")) == len(arms), "they stay on record"
