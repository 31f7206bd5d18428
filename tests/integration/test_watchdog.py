"""Guard, bot or both are frozen, with orders out: none stands after 10 s. Real processes, real venue."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.guard_stack import GuardStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NONE_OPEN_WITHIN_S = 10.0
LOOKED_FOR_S = 14.0
"""That none is open at one moment says little of one that quotes: what counts is when one was last seen."""


def quoting(stack: GuardStack) -> None:
    stack.start_watchdog()
    stack.until("the watchdog looks", (stack.folder.targets / f"{stack.account}-watchdog.json").exists, 15)
    stack.launch("frozen")
    stack.until("orders out", lambda: stack.truth()["orders"], 20)


def last_open_s(stack: GuardStack, looked_for_s: float) -> float:
    """When an order was last open at the venue, seconds from now on."""
    begun, last_s = time.monotonic(), 0.0
    while (now_s := time.monotonic() - begun) < looked_for_s:
        if stack.truth()["orders"]:
            last_s = now_s
        time.sleep(0.1)
    return last_s


def said(stack: GuardStack) -> list[dict[str, Any]]:
    lines = stack.folder.log("watchdog").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"') and '"event"' in line]


def shown(stack: GuardStack) -> dict[str, float]:
    (target,) = json.loads((stack.folder.targets / f"{stack.account}-watchdog.json").read_text())
    lines = httpx.get(f"http://{target['targets'][0]}/metrics", timeout=5).text.splitlines()
    return {name: float(value) for name, _, value in (one.rpartition(" ") for one in lines if not one.startswith("#"))}


def report(stack: GuardStack) -> dict[str, Any] | None:
    path: Path = stack.folder.root / "kill_switch" / stack.account / "latest.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"status": "failed"}
    return found if found["status"] == "executed" else None


@pytest.mark.parametrize("frozen", [("guard",), ("bot",), ("guard", "bot")], ids=" and ".join)
def test_none_is_open_within_10_s_whoever_is_frozen(guard_stack: GuardStack, frozen: tuple[str, ...]) -> None:
    stack = guard_stack
    quoting(stack)
    for name in frozen:
        stack.freeze(name)
    assert last_open_s(stack, LOOKED_FOR_S) < NONE_OPEN_WITHIN_S
    if "guard" in frozen:  # a guard that lives rolls a frozen bot back by itself, and may be faster
        stack.until("the kill switch's own proof", lambda: report(stack), 30)
        stack.until("its end", lambda: "kill_switch_ended" in {one["event"] for one in said(stack)}, 5)
        events = [one["event"] for one in said(stack)]
        assert events.index("beat_missed") < events.index("kill_switch_started") < events.index("kill_switch_ended")
        gauges = shown(stack)
        assert gauges['watchdog_state{state="AUTO_HOLD"}'] == 1
        assert gauges['watchdog_kill_switch_runs_total{result="executed"}'] >= 1
        assert gauges[f'watchdog_missed_beats{{of="{stack.account}-guard"}}'] >= 4


def test_while_everybody_beats_it_does_nothing_and_calls_off_what_is_not_needed_any_more(
    guard_stack: GuardStack,
) -> None:
    stack = guard_stack
    quoting(stack)
    beat = "watchdog_beat_timestamp_seconds"
    first = shown(stack)[beat]
    stack.until("three more looks", lambda: shown(stack)[beat] > first + 3, 15)
    assert shown(stack)['watchdog_state{state="OK"}'] == 1
    assert [one["event"] for one in said(stack) if one["event"] != "watchdog_state"] == []
    stack.freeze("guard")
    stack.until("it acts", lambda: "kill_switch_started" in {one["event"] for one in said(stack)}, 15)
    stack.thaw("guard")
    stack.until("it is called off", lambda: "kill_switch_called_off" in {one["event"] for one in said(stack)}, 15)
    stack.until("the bot quotes again", lambda: stack.truth()["orders"], 40)


def test_a_venue_that_hangs_is_seen_by_both_ways_and_the_bot_is_told_to_hold(guard_stack: GuardStack) -> None:
    stack = guard_stack
    quoting(stack)
    stack.freeze("venue")
    row = stack.record.open_on_account(stack.account)
    assert row is not None
    url = f"{row.obs_url}/api/ui/status"
    stack.until("AUTO_HOLD", lambda: shown(stack)['watchdog_state{state="AUTO_HOLD"}'] == 1, 20)
    stack.until("HELD", lambda: httpx.get(url, timeout=5).json()["state"] == "HELD", 10)
    (told,) = [one for one in said(stack) if one["event"] == "auto_hold"]
    assert told["answer"] == "200"
    stack.thaw("venue")
    stack.until("none open", lambda: not stack.truth()["orders"], 20)
