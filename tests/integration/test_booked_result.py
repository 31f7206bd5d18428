"""What a stopped attempt came to, by the guard's last word, is what the wallet lost: flatten and fees with it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bot.booked import read_booked
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.hosts import hosts_for, override_hosts
from tasks.account_file import load_account
from tasks.flattenings import flattenings_of
from tasks.guard.results import BOOKED, RESULT
from tests.support.guard_stack import GuardStack
from tests.support.plans import BRIEF, patient_brief

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
CRITERIA = BRIEF.with_name("criteria_brief.yaml")
MEASURED = """
  - id: attempt_pnl
    title: Result of this attempt since its launch
    source: check
    check: attempt_pnl
    unit: quote
    no_go: "< -500"
    severity: advisory
    phase: guard
    unknown_deadline_s: 60
    why: What later attempts of the candidate are told from.
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[GuardStack]:
    criteria, plan = tmp_path / "criteria.yaml", tmp_path / "plan.yaml"
    criteria.write_text(CRITERIA.read_text().rstrip() + MEASURED)
    text = patient_brief().replace("tests/support/criteria_brief.yaml", str(criteria))
    plan.write_text(text.replace("lasts_s: 9", "lasts_s: 600"))
    made = GuardStack(tmp_path / "home", plan)
    try:
        made.start_guard()
        yield made
    finally:
        made.close()


def _client(stack: GuardStack) -> AccountClient:
    access = load_account(stack.folder.root, stack.account)
    hosts = override_hosts(hosts_for("live", "linear"), {"MM_VENUE_REST_URL": access.rest_url}, rest_only=True)
    return AccountClient(hosts, access.api_key, access.api_secret)


def _equity_quote(stack: GuardStack) -> Decimal:
    with _client(stack) as client:
        return client.wallet_equity_quote()


def test_a_stopped_attempt_is_booked_at_what_its_account_lost(stack: GuardStack) -> None:
    before_quote = _equity_quote(stack)
    number = stack.begin("held")
    assert stack.sign(number, "entry", "barbara").done
    assert stack.ask("launch", {"stage_run_id": number}).done
    stack.wait_step(number, ("watch",), 30)
    stack.until("it holds a position", lambda: any(map(_qty, stack.truth()["positions"])), 60)
    assert stack.ask("stop", {"stage_run_id": number, "reason": "enough"}).done
    run = stack.wait_step(number, ("parked",), 60)
    lost_quote = _equity_quote(stack) - before_quote
    assert lost_quote
    booked = stack.record.booked(number, RESULT, BOOKED)
    assert booked is not None
    assert booked[1] == lost_quote
    _every_flattening_order_is_listed(stack, number)
    left = read_booked(Path(str(run.state_dir)))
    assert left is not None
    assert left.net_quote == lost_quote


def _every_flattening_order_is_listed(stack: GuardStack, number: int) -> None:
    """The proof says what was held and by which orders it was closed, and their executions are all listed."""
    told = flattenings_of(stack.record.rollback_steps(number))
    assert told[0].held["BTCUSDT"]
    sent = [order.client_order_id for one in told for order in one.orders if order.taken]
    with _client(stack) as client:
        lot_size = client.instrument("BTCUSDT").lot_size
        fills = client.executions("BTCUSDT", told[0].from_ms - 60_000)
        filled = {name: order.filled for name in sent if (order := client.order("BTCUSDT", name))}
    listed = {name: sum(one.qty_lots for one in fills if one.client_order_id == name) * lot_size for name in sent}
    assert filled == listed
    assert any(filled.values())


def _qty(position: object) -> Decimal:
    return Decimal(str(position["qty"])) if isinstance(position, dict) else Decimal(0)
