"""Preflight with parts that answer nonsense: what could not be checked is UNKNOWN, and nothing is raised."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest

from gates.checklists import Item
from gates.judge import Outcome
from gates.stages import ROOT, load_plan
from tasks import preflight as checking
from tasks.account_file import AccountAccess
from tasks.preflight import Checked, Subject, passed, preflight
from tasks.preflight_listed import Drilled, Facts, NotGathered, item_check, work_tree
from tasks.record_chain import ChainReport
from tasks.record_tables import utc_now
from tests.support.loopback import LoopbackServer

WORDS = {"title": "It froze", "why": "A bot that does not freeze is blind."}

BODIES = [(503, b"<html>Service Unavailable</html>"), (200, b"ok"), (200, b"[]"), (200, b'{"data": null}')]


class Answering(LoopbackServer):
    """Gives these answers one after the other, the last again and again."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self._answers = list(answers)
        super().__init__()

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, bytes]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.fixture(params=BODIES, ids=lambda one: f"{one[0]} {one[1].decode()}")
def prometheus(request: pytest.FixtureRequest) -> Iterator[str]:
    """An endpoint on loopback that always gives the same answer, which is none of Prometheus's."""
    server = Answering(request.param)
    yield f"http://127.0.0.1:{server.port}"
    server.close()


def _rows(prometheus_url: str, rest_url: str, disk: Path) -> dict[str, Checked]:
    rows = _checked(prometheus_url, rest_url, disk, None)
    assert not passed(rows)
    return {row.name: row for row in rows}


def _checked(prometheus_url: str, rest_url: str, disk: Path, names: set[str] | None) -> list[Checked]:
    path = ROOT / "configs" / "rollout.smoke.yaml"
    plan = load_plan(path)
    urls = (rest_url, "ws://127.0.0.1:9", "ws://127.0.0.1:9", "ws://127.0.0.1:9")
    access = AccountAccess("sim-1", "simulated", *urls, "key", "secret", "grant", "approve")
    signed = {"settings_digest": "s", "code_version": "v", "plan_digest": "p"}
    subject = Subject(access, plan, path, plan.stage("canary"), **signed, prometheus_url=prometheus_url, disk=disk)
    return asyncio.run(preflight(subject, names))


def test_a_prometheus_that_answers_something_else_is_unknown(
    prometheus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "PROMETHEUS_PATIENCE_S", 0.05)
    rows = _rows(prometheus, "http://127.0.0.1:9", tmp_path)
    for name in ("preflight_prometheus", "preflight_scraping"):
        assert rows[name].outcome is Outcome.UNKNOWN, rows[name]
        assert rows[name].detail


def test_a_host_that_is_refused_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "PROMETHEUS_PATIENCE_S", 0.05)
    rows = _rows("http://127.0.0.1:9", "http://venue.example.com", tmp_path)
    for name in ("preflight_clock", "preflight_no_orders", "preflight_flat"):
        assert rows[name].outcome is Outcome.UNKNOWN
        assert "is not on loopback" in rows[name].detail


def test_only_a_clean_work_tree_passes_and_no_git_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(NotGathered, match="not a git repository"):
        work_tree(tmp_path)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert work_tree(tmp_path) == (True, "clean")
    (tmp_path / "stray.py").touch()
    assert work_tree(tmp_path) == (False, "1 changes, first: ?? stray.py")


def drilled(*outcomes: str, days_ago: float = 1) -> tuple[bool, str]:
    """What the item says of a freeze drill of the canary that ended so."""
    item = Item.model_validate({"id": "froze", **WORDS, "drill": {"name": "freeze", "max_age_s": 2 * 86_400}})
    at = utc_now() - timedelta(days=days_ago)
    rows = [Drilled("testnet", "freeze", outcome, at) for outcome in outcomes]
    facts = Facts([], [*rows, Drilled("canary", "freeze", "passed", at)], ChainReport("a", True, 0, ""), [])
    path = ROOT / "configs" / "rollout.smoke.yaml"
    plan = load_plan(path)
    access = AccountAccess("a", "simulated", *[""] * 8)
    subject = Subject(access, plan, path, plan.stage("canary"), "s", "v", "p", "", Path(), facts=facts)
    return asyncio.run(item_check(item, subject))


def test_the_last_drill_of_that_stage_decides_and_it_grows_old() -> None:
    assert drilled("failed", "passed") == (True, "passed 1.0 d ago")
    assert drilled("passed", "failed") == (False, "drill freeze at testnet: failed")
    assert drilled("") == (False, "drill freeze at testnet: not over")
    assert drilled() == (False, "drill freeze was not made at testnet by this candidate")
    assert drilled("passed", days_ago=3) == (False, "passed 3.0 d ago, allowed: 2")


def test_a_prometheus_that_is_just_being_started_is_waited_for(tmp_path: Path) -> None:
    """As after its death: what answers first is not ready yet."""
    good = b'{"status": "success", "data": {"version": "2.45.0", "result": []}}'
    server = Answering((503, b"starting"), (503, b"starting"), (200, good))
    try:
        url = f"http://127.0.0.1:{server.port}"
        (row,) = _checked(url, "http://127.0.0.1:9", tmp_path, {"preflight_prometheus"})
    finally:
        server.close()
    assert (row.outcome, row.value) == (Outcome.PASS, "2.45.0")


UNANSWERED = {
    "unreachable": (0, b""),
    "a proxy's page": (502, b"<html>Bad Gateway</html>"),
    "its own deadline": (503, b'{"status": "error", "errorType": "timeout", "error": "query timed out"}'),
}
TAKEN = b'{"status": "success", "data": {"resultType": "vector", "result": []}}'
REFUSED = b'{"status": "error", "errorType": "bad_data", "error": "unknown function"}'


class Hangs(Answering):
    """Instead of a status of 0 it says nothing in time."""

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, bytes]:
        status, said = super().answer(path, headers, body)
        if status == 0:
            time.sleep(3)
        return status or 200, said


def _queries_asked(*answers: tuple[int, bytes], disk: Path) -> Checked:
    server = Hangs(*answers)
    try:
        (row,) = _checked(f"http://127.0.0.1:{server.port}", "http://127.0.0.1:9", disk, {"preflight_queries"})
    finally:
        server.close()
    return row


@pytest.mark.parametrize("first", UNANSWERED.values(), ids=UNANSWERED)
def test_a_query_that_prometheus_does_not_answer_at_once_is_asked_again(
    first: tuple[int, bytes], tmp_path: Path
) -> None:
    row = _queries_asked((200, TAKEN), first, (200, TAKEN), disk=tmp_path)
    assert (row.outcome, row.value) == (Outcome.PASS, "all taken"), row


@pytest.mark.parametrize("answer", [UNANSWERED["a proxy's page"], UNANSWERED["its own deadline"]])
def test_a_query_that_is_never_answered_is_unknown_and_no_refusal(
    answer: tuple[int, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known of the query: the plan has no fault."""
    monkeypatch.setattr(checking, "PROMETHEUS_PATIENCE_S", 0.5)
    row = _queries_asked(answer, disk=tmp_path)
    assert row.outcome is Outcome.UNKNOWN
    assert str(answer[0]) in row.detail


def test_a_query_that_prometheus_refuses_is_refused_at_once(tmp_path: Path) -> None:
    row = _queries_asked((400, REFUSED), disk=tmp_path)
    assert row.outcome is Outcome.FAIL
    assert "bad_data: unknown function" in row.value


class Clock:
    """Answers with the machine's own time, some ms off, after so many ms each."""

    def __init__(self, off_ms: int, took_ms: list[int]) -> None:
        self.off_ms, self.took_ms, self.now_ms = off_ms, took_ms, 1_000_000

    async def read(self, _: object) -> int:
        took_ms = self.took_ms.pop(0)
        self.now_ms += took_ms
        return self.now_ms + self.off_ms  # read at the very end of the call


@pytest.mark.parametrize(
    ("off_ms", "took_ms", "good", "shown"),
    [
        (0, [3700, 20], True, "10 ms, known to 10 ms"),  # the slow answer tells little: it is asked once more
        (0, [3700] * 5, False, "1850 ms, known to 1850 ms"),  # never known well enough: that is no pass
        (1500, [20] * 5, False, "1510 ms, known to 10 ms"),
        (-1500, [20] * 5, False, "-1490 ms, known to 10 ms"),
    ],
)
def test_the_clock_is_judged_by_the_answer_that_tells_most(
    off_ms: int, took_ms: list[int], good: bool, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(off_ms, took_ms)
    monkeypatch.setattr(checking.time, "time_ns", lambda: clock.now_ms * 1_000_000)
    subject = SimpleNamespace(plan=load_plan(ROOT / "configs" / "rollout.smoke.yaml"))
    assert asyncio.run(checking._clock(subject, clock)) == (good, shown)  # type: ignore[arg-type]
