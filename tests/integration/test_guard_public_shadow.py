"""The shadow stage of a plan for a real venue: on its public market data, which a stand-in on loopback gives here.

The bot is started without any key, quotes on what it sees, and is judged; market data that stops is the venue's doing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gates.replay import replay
from tasks.record_tables import RollbackStep
from tasks.rollback import NO_ACCOUNT
from tests.support.guard_stack import GuardStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
PLAN = Path(__file__).parents[1] / "support" / "plan_public.yaml"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardStack]:
    made = GuardStack(tmp_path_factory.mktemp("public") / "home", PLAN)
    try:
        made.start_guard()
        yield made
    finally:
        made.close()


def _launched(stack: GuardStack, rollout: str) -> int:
    number = stack.begin(rollout, "shadow")
    assert stack.ask("launch", {"stage_run_id": number}).done, "nobody signs before a stage that risks nothing"
    stack.wait_step(number, ("warm_up",), 40)
    return number


def _steps(stack: GuardStack, number: int) -> dict[str, RollbackStep]:
    return {one.name: one for one in stack.record.rollback_steps(number)}


def test_it_watches_the_venues_market_without_a_key_and_is_judged_go(stack: GuardStack) -> None:
    number = _launched(stack, "watched")
    _knows_no_key(stack)
    made = {one.criterion_id for one in stack.record.measurements_latest(number)}
    assert {"preflight_clock", "preflight_symbols", "preflight_candidate"} <= made
    assert not {"preflight_key", "preflight_flat", "preflight_no_orders"} & made, "of an account that it does not use"
    run = stack.wait_step(number, ("watched",), 60)
    for left in ("repeated_run.json", "data_check.json"):
        stack.until(left, (Path(str(run.state_dir)) / left).exists, 40)
    answer = stack.ask("judge", {"stage_run_id": number}, 60)
    rows = stack.record.measurements_latest(number)
    assert answer.result["word"] == "GO", "\n".join(f"{o.criterion_id} {o.outcome} {o.value} {o.reason}" for o in rows)
    stack.enroll()
    assert stack.sign(number, "exit", "quant.lead").done
    stack.promote(number)
    run = stack.wait_step(number, ("promoted",), 30)
    steps = _steps(stack, number)
    states = {name: one.state for name, one in steps.items()}
    assert (states["revoke_grant"], states["stop_bot"], states["bundle"]) == ("verified",) * 3
    assert (states["cancel_all"], states["flatten"]) == ("skipped",) * 2, (
        "nothing is called proven that nobody looked at"
    )
    assert steps["flatten"].proof == {"why": NO_ACCOUNT}
    assert (stack.bot(run), stack.is_clean()) == (None, True)
    assert replay(Path(str(run.evidence_dir))).same


def _knows_no_key(stack: GuardStack) -> None:
    """By the kernel's word, of the process that runs."""
    bot = stack.bot()
    assert bot is not None
    words = Path(f"/proc/{bot.pid}/cmdline").read_text().split("\0")
    assert {"--shadow", "--network", "--exchange", "bybit"} <= set(words)
    environment = Path(f"/proc/{bot.pid}/environ").read_text()
    names = {one.partition("=")[0] for one in environment.split("\0")}
    assert "MM_VENUE_WS_PUBLIC_URL" in names
    assert not {"BYBIT_API_KEY", "BYBIT_API_SECRET", "SECRETS_BACKEND", "MM_LIVE_ENABLE"} & names
    access = json.loads((stack.folder.accounts / f"{stack.account}.json").read_text())
    assert access["api_key"] not in environment
    assert access["api_secret"] not in environment


def test_market_data_that_stops_is_the_environments_and_parks(stack: GuardStack) -> None:
    number = _launched(stack, "stalled")
    stack.control("faults", {"kind": "stall"})
    run = stack.wait_step(number, ("parked",), 30)
    assert (run.reason, run.decided_criterion) == ("environment", "stale_book")
    assert (run.bot_gone_at is not None, stack.bot(run)) == (True, None)
