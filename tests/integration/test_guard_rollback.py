"""Rollbacks on a bad day: what is claimed is what the venue shows, and what is not proven is paged and tried on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from bot.domain.order import Side
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.hosts import hosts_for, override_hosts
from gates.stages import ROOT
from tasks.account_file import load_account
from tasks.guard.watching import OUTBOX_EVERY_S
from tasks.record_tables import StageRun
from tests.support.guard_stack import GuardStack
from tests.support.plans import patient_brief
from tests.support.proofs import SAFETY_STEPS, proofs
from tests.support.slack_receiver import Receiver
from tests.support.small_disk import mounted

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
ROOM = "2g"
"""Preflight wants a gigabyte free; none of it is taken from the memory before it is written to."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder as a small file system of its own. Skipped where nobody may mount one."""
    with mounted(tmp_path_factory.mktemp("small") / "home", ROOM) as folder:
        yield folder


@pytest.fixture(scope="module")
def slack() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def stack(disk: Path, slack: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardStack]:
    """Venue, Prometheus and guard on that disk; notices go to a receiver."""
    settings, plan = tmp_path_factory.mktemp("settings") / "bot.yaml", disk / "plan.yaml"
    armed, told = "receive_window_ms: 2000", "settings: configs/bot/demo.yaml"
    # Else the venue itself cancels every order of the account, whoever's, once the bot's connection is gone for 10 s.
    settings.write_text(
        (ROOT / "configs/bot/demo.yaml").read_text().replace(armed, f"{armed}\n  disconnect_cancel_s: 0")
    )
    # Longer than a stop takes to come in: what is stopped here is stopped by people, not for want of measurements.
    text = patient_brief(unknown_deadline_s=120).replace(told, f"settings: {settings}")
    plan.write_text(text.replace("lasts_s: 9", "lasts_s: 300"))
    made = GuardStack(disk, plan)
    made.environment["SLIPWAY_SLACK_WEBHOOK"] = slack.url
    try:
        made.start_guard()
        yield made
    finally:
        made.processes["venue"].send_signal(signal.SIGCONT)
        made.close()


def _launch(stack: GuardStack, rollout: str, person: str) -> int:
    number = stack.begin(rollout)
    assert stack.sign(number, "entry", person).done
    assert stack.ask("launch", {"stage_run_id": number}).done
    stack.wait_step(number, ("watch",), 30)
    stack.until("quotes stand", lambda: stack.truth()["orders"], 10)
    return number


def _place_foreign(stack: GuardStack) -> str:
    """An order on the account that bears nobody's prefix of ours, far from the market. Returns its client id."""
    with _client(stack) as client:
        instrument = client.instrument("BTCUSDT")
        far = instrument.price(instrument.ticks_floor(client.top_of_book("BTCUSDT").bid * Decimal("0.9")))
        client.place_post_only("BTCUSDT", Side.BUY, Decimal("0.001"), far, "somebody-else-1")
    return "somebody-else-1"


def _client(stack: GuardStack) -> AccountClient:
    access = load_account(stack.folder.root, stack.account)
    hosts = override_hosts(hosts_for("live", "linear"), {"MM_VENUE_REST_URL": access.rest_url}, rest_only=True)
    return AccountClient(hosts, access.api_key, access.api_secret)


def _steps(stack: GuardStack, number: int) -> dict[str, str]:
    return {step.name: step.state for step in stack.record.rollback_steps(number)}


def _told(slack: Receiver, rollout: str) -> list[str]:
    return [text for text in slack.texts if text.startswith(f"[{rollout}/canary]")]


def test_what_is_claimed_is_what_the_venue_shows(stack: GuardStack, slack: Receiver) -> None:
    """The venue is away past every deadline with quotes standing, the bot hangs and takes no signal but SIGKILL, the
    guard dies in the middle of its kill switch, and an order of somebody else stands on the account."""
    number = _launch(stack, "bad-day", "barbara")
    stranger = _place_foreign(stack)
    stack.freeze("bot")
    stack.freeze("venue")
    command = [str(Path(sys.executable).with_name("rollout")), "stop", "bad-day", "--reason", "a bad day"]
    stop = subprocess.Popen(command, env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stack.until("the kill switch is at work", lambda: "cancel_all" in _steps(stack, number), 20)
    stack.kill("guard")
    assert _steps(stack, number)["cancel_all"] != "verified"
    stack.start_guard()
    failed = stack.wait_step(number, ("rollback_failed",), 30)
    assert (failed.none_open_at, failed.flat_at, failed.ended_at) == (None, None, None)
    assert failed.bot_gone_at is not None, "it takes no venue to stop a bot"
    assert stop.poll() is None, "nothing is claimed"
    stack.thaw("venue")
    run = stack.wait_step(number, ("parked",), 30)
    said, _ = stop.communicate(timeout=120)
    assert (stop.returncode, "parked; bot gone, no open order, flat" in said) == (0, True)
    assert (run.reason, "a bad day" in str(run.decided_why)) == ("people", True)
    _others_untouched(stack, run, stranger)
    told = _told(slack, "bad-day")
    assert [one for one in told if "cancel_all: proven; 1 order of others on the account, left alone" in one]
    assert len([one for one in told if "ROLLBACK_FAILED" in one]) == 1
    assert told.index(next(one for one in told if "ROLLBACK_FAILED" in one)) < len(told) - 1


def _others_untouched(stack: GuardStack, run: StageRun, stranger: str) -> None:
    truth = stack.truth()
    assert [one["client_order_id"] for one in truth["orders"]] == [stranger]
    assert all(Decimal(one["qty"]) == 0 for one in truth["positions"])
    steps = {step.name: step for step in stack.record.rollback_steps(run.id or 0)}
    assert {name: steps[name].state for name in SAFETY_STEPS} == dict.fromkeys(SAFETY_STEPS, "verified")
    assert [(one["own_open"], one["foreign_open"]) for one in steps["cancel_all"].proof["reads"]] == [(0, 1)] * 2
    assert stack.bot(run) is None
    assert stack.record.verify_chain(stack.account).ok


def test_a_prometheus_that_hangs_holds_up_no_stop(stack: GuardStack) -> None:
    _clean_up(stack)
    number = _launch(stack, "unmeasured", "cecilia")
    stack.freeze("prometheus")
    try:
        with pytest.raises(httpx.TimeoutException):
            httpx.get(f"{stack.prometheus_url}/-/ready", timeout=1)
        command = [str(Path(sys.executable).with_name("rollout")), "stop", "unmeasured", "--reason", "nothing is seen"]
        stop = subprocess.run(command, env=stack.environment, capture_output=True, text=True, timeout=300, check=False)
        assert (stop.returncode, "parked; bot gone, no open order, flat" in stop.stdout) == (0, True), stop
        run = stack.wait_step(number, ("parked",), 10)
        assert (run.reason, "nothing is seen" in str(run.decided_why)) == ("people", True)
        proofs(stack, run)
    finally:
        stack.thaw("prometheus")


def test_a_disk_that_is_full_holds_up_no_step_and_no_notice(stack: GuardStack, disk: Path, slack: Receiver) -> None:
    """Stopped by the guard's own address. The last one: Prometheus does not survive it."""
    _clean_up(stack)
    number = _launch(stack, "full", "ada")
    bot, target = stack.bot(), stack.folder.targets / f"{stack.record.stage_run(number).run}.json"
    assert bot is not None
    assert target.exists()
    _fill(disk)
    try:
        _stop_by_url(stack)
        stack.until("the bot is gone", lambda: not bot.is_alive(), 10)
        stack.until("the venue shows neither order nor position", stack.is_clean, 20)
        stack.until("it is told", lambda: any("flatten: proven" in one for one in _told(slack, "full")), 20)
        stack.until("flat was read again, and every step is proven", lambda: not target.exists(), 20)
        confirmed_s = time.time()
        stack.until("what that says has had its turn", lambda: _beat_s(stack) > confirmed_s + 2 * OUTBOX_EVERY_S, 20)
    finally:
        _resize(disk, ROOM)
    run = stack.wait_step(number, ("parked",), 30)
    assert (run.reason, run.decided_why) == ("people", "grace: the disk is full")
    proofs(stack, run)
    stack.until("the end is told", lambda: any("every step is proven" in one for one in _told(slack, "full")), 10)
    told = [one.partition(" (not in")[0].partition(" (record")[0] for one in _told(slack, "full")]
    assert len(told) == len(set(told)), "none twice"
    assert [entry.kind for entry in stack.record.entries(stack.account)].count("stop_refused") == 1


def _guard_url(stack: GuardStack) -> str:
    (told,) = json.loads((stack.folder.targets / f"{stack.account}-guard.json").read_text())
    return f"http://{told['targets'][0]}"


def _beat_s(stack: GuardStack) -> float:
    """Up to when the guard's loop has turned, by its own word."""
    lines = httpx.get(f"{_guard_url(stack)}/metrics", timeout=5).text.splitlines()
    return float(next(one for one in lines if one.startswith("rollout_guard_beat_timestamp_seconds ")).split()[1])


def _stop_by_url(stack: GuardStack) -> None:
    url = f"{_guard_url(stack)}/stop"
    assert httpx.post(url, headers={"Authorization": "Bearer guess"}).status_code == 401
    token = load_account(stack.folder.root, stack.account).approve_token
    body = {"who": "grace", "reason": "the disk is full"}
    answer = httpx.post(url, headers={"Authorization": f"Bearer {token}"}, json=body)
    assert answer.status_code in (200, 202)
    assert answer.json()["what"] == "full/canary"


def _clean_up(stack: GuardStack) -> None:
    """The stranger's order is taken back."""
    with _client(stack) as client:
        client.cancel_all("BTCUSDT")
    assert stack.is_clean()


def _fill(disk: Path) -> None:
    """Takes away every page that is free: the file system becomes as small as what stands in it."""

    def filled() -> bool:
        found = os.statvfs(disk)
        return _resize(disk, str((found.f_blocks - found.f_bfree) * found.f_frsize))

    end = time.monotonic() + 60
    while not filled():  # more was written meanwhile
        assert time.monotonic() < end


def _resize(disk: Path, size: str) -> bool:
    words = ["mount", "-o", f"remount,size={size}", str(disk)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
