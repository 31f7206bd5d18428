"""A Prefect server that is away when people are to be asked to sign fails no flow: they are asked once it is back."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows import approvals, stage
from flows.approvals import Approvals
from gates.approvers import Quorum
from gates.course import Step
from gates.stages import load_plan
from tests.support.guard_parts import PLAN, guard_at

REQUEST = httpx.Request("POST", "http://127.0.0.1:9/api/deployments")


def _answered(status: int) -> Exception:
    return httpx.HTTPStatusError(str(status), request=REQUEST, response=httpx.Response(status, request=REQUEST))


class Server:
    """Starts a run for each key, but for what `refuses`: the error of each call, in turn; None where it is served."""

    def __init__(self, *refuses: Exception | None) -> None:
        self.refuses = list(refuses)
        self.runs: dict[str, UUID] = {}
        self.calls = 0

    def read_deployment_by_name(self, name: str) -> SimpleNamespace:
        assert name == "approval/person"
        return SimpleNamespace(id=uuid4())

    def create_flow_run_from_deployment(
        self, number: UUID, *, parameters: dict[str, Any], idempotency_key: str
    ) -> SimpleNamespace:
        self.calls += 1
        error = self.refuses.pop(0) if self.refuses else None
        if error is not None:
            raise error
        return SimpleNamespace(id=self.runs.setdefault(parameters["person"], uuid4()), state=None)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "get_run_logger", lambda: logging.getLogger("flow"))
    monkeypatch.setattr(stage, "get_run_logger", lambda: logging.getLogger("flow"))
    monkeypatch.setattr(approvals, "START_AGAIN_S", 0.0)


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Approvals]:
    """The approvals of a stage whose preflight has passed, for which several may sign."""
    one, two = "entry_sign_offs: {roles: [Quant Lead]}", "entry_sign_offs: {roles: [Quant Lead, SRE Lead]}"
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN.read_text().replace(one, two))
    guard = guard_at(tmp_path / "home", "ready", source=plan)
    yield Approvals(guard.store.record, 1, load_plan(plan), "")
    guard.store.close()


def _server(monkeypatch: pytest.MonkeyPatch, *refuses: Exception | None) -> Server:
    server = Server(*refuses)

    @contextmanager
    def client(*, sync_client: bool) -> Iterator[Server]:
        yield server

    monkeypatch.setattr(approvals, "get_client", client)
    return server


@pytest.mark.parametrize("away", [lambda: httpx.ConnectError("refused"), lambda: _answered(503)])
def test_who_is_not_asked_because_the_server_is_away_is_asked_at_the_next_look(
    asking: Approvals, monkeypatch: pytest.MonkeyPatch, away: Callable[[], Exception]
) -> None:
    server = _server(monkeypatch, away(), None, away())
    everybody = set(asking._asked("entry"))
    assert len(everybody) > 1
    assert (asking.start("entry"), server.runs) == (False, {})
    assert not asking.start("entry")
    assert len(server.runs) == 1, "one is asked, then the server is away"
    assert asking.start("entry")
    assert (set(server.runs), server.calls) == (everybody, 2 + len(everybody)), "nobody was asked twice"
    assert asking.start("entry")
    assert server.calls == 2 + len(everybody)


def test_between_two_tries_there_is_time(asking: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "START_AGAIN_S", 60.0)
    server = _server(monkeypatch, httpx.ConnectError("refused"))
    assert not asking.start("entry")
    assert (asking.start("entry"), server.calls) == (False, 1)


@pytest.mark.parametrize("real", [_answered(401), ObjectNotFound(Exception("no such deployment"))])
def test_a_server_that_refuses_fails_the_flow(
    asking: Approvals, monkeypatch: pytest.MonkeyPatch, real: Exception
) -> None:
    _server(monkeypatch, real)
    with pytest.raises(type(real)):
        asking.start("entry")


def test_a_port_at_which_nobody_listens_is_a_server_that_is_away(asking: Approvals) -> None:
    """By Prefect's own client: a fresh one does not try a refused connection again."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        assert not asking.start("entry")


def test_the_sign_off_goes_on_asking_until_everybody_is_asked() -> None:
    answers = [False, False, True]

    def start(gate: str) -> bool:
        assert gate == "entry"
        return answers.pop(0)  # asked once more, it would have no answer

    looks = [Quorum(False, (), ("SRE Lead",))] * 4 + [Quorum(True, ("ada",), ())]
    nothing = SimpleNamespace(show_evidence=lambda gate: None, show_sign_offs=lambda: None)
    people = SimpleNamespace(start=start, quorum=lambda gate: looks.pop(0), revive=lambda gate: None)
    course = SimpleNamespace(approvals=people, board=nothing, step=lambda: Step.READY, pause=lambda: None)
    stage.sign_off.fn(cast(stage.Course, course), "entry", Step.READY)
    assert (answers, looks) == ([], [])
