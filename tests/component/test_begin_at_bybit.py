"""What keeps a stage at Bybit from beginning, each by name, before anything is asked of the venue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.account_file import ADDRESSES, SECRETS, AccountFileError
from tasks.guard import beginning
from tasks.guard.beginning import begin, candidate_of
from tasks.guard.drill_operations import LOWERED
from tasks.guard.resume import resume
from tasks.guard.state import STAND_IN, Active, GuardState, Refused, account_now
from tasks.state_folder import write_private
from tests.support.guard_parts import guard_at, never_close

PLAN = Path(__file__).parents[1] / "support" / "plan_bybit.yaml"
SETTINGS = PLAN.with_name("bot.yaml")
LOOPBACK = dict(zip(ADDRESSES, ("http://127.0.0.1:1", *["ws://127.0.0.1:1"] * 3), strict=True))


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GuardState]:
    async def nothing(guard: GuardState, active: Active) -> None:
        """Preflight is not what is looked at here."""

    monkeypatch.setattr(beginning, "do_preflight", nothing)
    made = guard_at(tmp_path / "home", "parked")
    account(made)
    yield made
    made.store.close()


def account(guard: GuardState, **changes: str) -> None:
    held = {"account": "a", "venue": "bybit", "env": "testnet", **dict.fromkeys(SECRETS, "k" * 32), **changes}
    write_private(guard.folder.accounts / "a.json", json.dumps(held))


def plan_with(folder: Path, settings: dict[str, Any] | None = None, **stage: Any) -> Path:
    content = yaml.safe_load(PLAN.read_text())
    content["stages"][0] |= stage
    if settings is not None:
        own = yaml.safe_load(SETTINGS.read_text())
        for name, section in settings.items():
            own[name] = own.get(name, {}) | section
        (folder / "settings.yaml").write_text(yaml.safe_dump(own))
        content["settings"] = str(folder / "settings.yaml")
    (folder / "plan.yaml").write_text(yaml.safe_dump(content))
    return folder / "plan.yaml"


def begun(guard: GuardState, plan: Path = PLAN, **more: str) -> dict[str, Any]:
    return asyncio.run(begin(guard, {"rollout": "real", "stage": "testnet", "plan": str(plan), **more}))


def refused(guard: GuardState, plan: Path = PLAN, **more: str) -> str:
    with pytest.raises(Refused) as raised:
        begun(guard, plan, **more)
    (line,) = str(raised.value).splitlines()
    return line


def test_a_testnet_stage_begins_on_an_account_for_testnet(guard: GuardState) -> None:
    run = guard.store.record.stage_run(begun(guard)["stage_run_id"])
    assert (run.stage, run.account) == ("testnet", "a")
    known = guard.store.record.rollout("real")
    assert known is not None
    assert known.nonce == "", "what was rolled back stays burnt"


def test_an_account_of_another_env_is_refused(guard: GuardState) -> None:
    account(guard, env="live")
    assert refused(guard) == (
        "stage testnet of guard-bybit: env testnet, account a is for live; allowed: an account for testnet"
    )


def test_a_nonce_is_refused_for_it_would_make_a_burnt_digest_new(guard: GuardState) -> None:
    assert refused(guard, nonce="n0").startswith("nonce 'n0' at venue bybit; allowed: none")


def test_what_is_put_through_at_a_stand_in_is_another_candidate(guard: GuardState) -> None:
    def candidate() -> tuple[str, str]:
        rollout, _ = candidate_of(guard, "real", PLAN, {})
        return rollout.candidate, rollout.nonce

    real = candidate()
    account(guard, **LOOPBACK)
    stand_in = candidate()
    assert (real[1], stand_in[1]) == ("", STAND_IN)
    assert real[0] != stand_in[0]
    assert begun(guard, nonce=STAND_IN)["step"] == "requested", "as a rollout that is begun again says"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"env": "live"}, "is for live, run 2 began for testnet"),
        (LOOPBACK, "is at a stand-in, run 2 began at the venue itself"),
        (LOOPBACK | {"venue": "simulated"}, "is at simulated, run 2 began at bybit"),
    ],
)
def test_a_file_that_leads_elsewhere_than_the_stage_began_is_neither_gone_on_with_nor_taken_for_a_proof(
    guard: GuardState, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], said: str
) -> None:
    never_close(monkeypatch)
    number = begun(guard)["stage_run_id"]
    account(guard, **changes)
    guard.active = None  # the guard starts anew
    asyncio.run(resume(guard))
    active = guard.active
    assert isinstance(active, Active)
    assert (active.id, active.row.step, active.known_access) == (number, "rolling_back", None)
    assert active.decision is not None
    assert active.decision.sentence.endswith(said)
    with pytest.raises(AccountFileError, match=said):
        account_now(guard, active)
    account(guard)
    assert account_now(guard, active).env == "testnet", "once it is put back, it can be looked at"


def test_bot_and_guard_go_to_the_same_hosts(guard: GuardState, tmp_path: Path) -> None:
    demo = plan_with(tmp_path, {"venue": {"hosts": "demo"}})
    assert "venue.hosts demo; allowed in a rollout: by_mode" in refused(guard, demo)
    account(guard, env="live", gateway="https://gw.example.com")
    assert "account a: gateway gw.example.com; allowed: venue.gateway of" in refused(guard)
    signed = plan_with(tmp_path, {"venue": {"gateway": "gw.example.com"}})
    assert "account a is for live" in refused(guard, signed)


def test_a_drill_that_cannot_be_made_here_is_named_before_the_stage_begins(
    guard: GuardState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drills = [
        {"name": "alert", "trips": ["alerts_firing"], "window_s": 12},
        {"name": "backup", "trips": ["backup_is_whole"], "window_s": 12},
    ]
    monkeypatch.setenv("MM_JOURNAL_STORE", "redis://127.0.0.1:1")
    said = refused(guard, plan_with(tmp_path, drills=drills))
    assert f"drill alert: {guard.folder.rules}: no alert {LOWERED}; allowed: the rules of" in said
    assert "drill backup: the journal is in redis://127.0.0.1:1; allowed: sqlite" in said
    monkeypatch.delenv("MM_JOURNAL_STORE")
    assert "drill backup" not in refused(guard, plan_with(tmp_path, drills=drills))
