"""Who is asked to sign is told whom it asks, over which evidence, and where."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gates.approvers import SignOffs, asked_of, load_approvers
from gates.judge import Outcome
from gates.stages import ROOT
from tasks.guard import beginning, judging
from tasks.guard.judging import _pass
from tasks.guard.requests import HANDLERS
from tasks.guard.state import GuardState, Refused
from tasks.guard.watching import _people_of
from tasks.preflight import Checked
from tasks.record_audit import record_fault
from tasks.record_tables import utc_now
from tests.support.guard_parts import DIGEST, activate, guard_at, writing

LINK = "http://127.0.0.1:4200/v2/runs/flow-run/1f0c"
BRIEF = load_approvers(ROOT / "tests" / "support" / "approvers_brief.yaml").people


async def _begin(guard: GuardState, **more: Any) -> dict[str, Any]:
    guard.active = None
    guard.store.record.change_stage_run(1, "step", step="parked")
    wanted = {"rollout": "linked", "stage": "canary", "plan": str(guard.folder.root / "plan.yaml"), "nonce": "n"}
    return await HANDLERS["begin"](guard, {**wanted, **more})


def _texts(guard: GuardState, kind: str) -> list[str]:
    return [one.text for one in guard.store.record.notices("a") if one.kind == kind]


def test_before_the_grant_the_notice_says_who_over_what_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def passes(*_: Any) -> list[Checked]:
        return [Checked("preflight_flat", "Flat", Outcome.PASS, "0", "0")]

    monkeypatch.setattr(beginning, "preflight", passes)
    monkeypatch.setattr(beginning, "passed", lambda rows: True)

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "ready")
        activate(guard)
        async with writing(guard):
            number = (await _begin(guard, link=LINK))["stage_run_id"]
            await asyncio.gather(*guard.tasks)
            run = guard.store.record.stage_run(number)
            assert run.link == LINK
            assert run.entry_digest is not None
            (text,) = _texts(guard, "sign_off_wanted")
            for words in ("before the grant: Quant Lead", "of ada, barbara", run.entry_digest[:6], LINK):
                assert words in text
            assert record_fault(guard.store.record, "a") == ""
            with guard.store.record.writing() as session:
                session.connection().exec_driver_sql("UPDATE stage_run SET link = 'http://evil' WHERE link <> ''")
            assert "link is 'http://evil'" in record_fault(guard.store.record, "a"), "it is told in the chain"

    asyncio.run(work())


def test_to_promote_and_when_reminded_it_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def build(*_: Any) -> SimpleNamespace:
        return SimpleNamespace(files={}, digest=DIGEST, folder=tmp_path / "x" / "judged")

    monkeypatch.setattr(judging, "build_evidence", build)

    async def work() -> None:
        guard = guard_at(tmp_path / "home", "watched", part_from=utc_now())
        active = activate(guard)
        active.row.link = LINK
        active.stage = active.stage.model_copy(
            update={"exit_sign_offs": SignOffs(distinct_people=2), "sign_off_reminder_s": 0}
        )
        async with writing(guard):
            await _pass(guard, active)
            await _people_of(guard, active)
            await guard.store.settled()
            (wanted,) = _texts(guard, "sign_off_wanted")
            (reminder,) = _texts(guard, "reminder")
            for words in ("to promote: 2 people", "of ada, barbara", DIGEST[:6], LINK):
                assert words in wanted
            for words in ("still waiting for 2 more people", DIGEST[:6], LINK):
                assert words in reminder

    asyncio.run(work())


@pytest.mark.parametrize("link", ["javascript:alert(1)", "http://x/ y", "<http://x|safe>", "https:///x", "x" * 3, 7])
def test_a_link_that_is_none_is_refused_by_name(tmp_path: Path, link: object) -> None:
    async def work() -> None:
        guard = guard_at(tmp_path / "home", "ready")
        activate(guard)
        async with writing(guard):
            with pytest.raises(Refused, match="link: "):
                await _begin(guard, link=link)
            assert len(guard.store.record.stage_runs(account="a")) == 1

    asyncio.run(work())


def test_asked_is_who_could_help_and_never_the_author() -> None:
    for required, wanted in (
        (SignOffs(), []),
        (SignOffs(distinct_people=1), ["ada", "cecilia", "dorothy", "emmy"]),
        (SignOffs(roles=("Quant Lead",)), ["ada", "cecilia", "dorothy", "emmy"]),
        (SignOffs(roles=("Risk Manager",)), []),
    ):
        assert asked_of(required, BRIEF, "barbara") == wanted
