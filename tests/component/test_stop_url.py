"""The guard's own address to stop: whoever has the token stops at once, whoever has not is refused and recorded."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gates.course import Step
from tasks.guard import refusals, stop_url, stopping
from tasks.guard.refusals import BURST
from tasks.guard.state import GuardState
from tasks.guard.stop_url import WRONG_MAX
from tasks.guard.stopping import StoppedByUrl
from tests.support.guard_parts import activate, guard_at, never_close, writing

TOKEN = {"Authorization": f"Bearer {'k' * 32}"}


@pytest.fixture(autouse=True)
def _nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a slow machine taken for a guard that does not answer, or for a record that is away."""
    never_close(monkeypatch)
    monkeypatch.setattr(stopping, "WITHIN_S", 60.0)
    monkeypatch.setattr(stopping, "WRITTEN_WITHIN_S", 50.0)


@contextmanager
def served(guard: GuardState) -> Iterator[str]:
    port = guard.shown.serve(StoppedByUrl(guard))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        guard.shown.close()


def called(home: Path, *calls: dict[str, object], step: str = "watch", away: bool = False) -> list[httpx.Response]:
    """Those calls of `/stop`, one after the other; the guard over it stands at `step`. `away`: nothing is written."""

    async def run() -> list[httpx.Response]:
        guard = guard_at(home, step)
        guard.loop = asyncio.get_running_loop()
        if step != "promoted":
            activate(guard)
        answers: list[httpx.Response] = []
        with served(guard) as url:
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:

                async def all_of_them() -> None:
                    for call in calls:
                        method = str(call.pop("method", "POST"))
                        answers.append(await client.request(method, "/stop", **call))  # type: ignore[arg-type]

                if away:
                    await all_of_them()
                async with writing(guard):
                    if not away:
                        await all_of_them()
                    await guard.store.settled()
                    kinds = [entry.kind for entry in guard.store.record.entries("a")]
                    stored = guard.store.record.stage_run(1)
        told = {"step": stored.step, "why": str(stored.decided_why), "refused": str(kinds.count("stop_refused"))}
        for one in answers:
            one.headers.update({f"x-test-{name}": value for name, value in told.items()})
        return answers

    return asyncio.run(run())


def test_the_right_token_stops_and_the_answer_says_that_it_is_written(tmp_path: Path) -> None:
    (answer,) = called(tmp_path, {"headers": TOKEN, "json": {"who": "ada", "reason": "lunch"}})
    assert answer.json() == {"what": "r/canary", "step": "rolling_back", "written": True}
    assert (answer.status_code, answer.headers["x-test-step"]) == (200, "rolling_back")
    assert answer.headers["x-test-why"] == "ada: lunch"


def test_it_stops_while_the_record_is_away_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "WRITTEN_WITHIN_S", 0.2)
    (answer,) = called(tmp_path, {"headers": TOKEN}, away=True)
    assert answer.status_code == 202
    assert answer.json() == {"what": "r/canary", "step": "rolling_back", "written": False}
    assert answer.headers["x-test-step"] == "rolling_back", "written once the record is back"


def test_wrong_tokens_are_refused_recorded_and_throttled_and_a_right_one_never_is(tmp_path: Path) -> None:
    wrong = [{"headers": {"Authorization": f"Bearer {number}"}} for number in range(WRONG_MAX + 5)]
    *refused, stopped = called(tmp_path, *wrong, {"headers": TOKEN})
    assert [one.status_code for one in refused] == [401] * WRONG_MAX + [429] * 5
    assert stopped.status_code == 200
    assert stopped.headers["x-test-refused"] == str(WRONG_MAX)


def test_a_flood_of_what_is_no_stop_grows_the_record_by_its_first_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody who has no token fills the disk, or keeps a stop's own write waiting behind thousands of links."""
    monkeypatch.setattr(refusals, "EVERY_S", 3600.0)  # a flood that takes long makes no room for one more
    hosts = [{"headers": {**TOKEN, "Host": f"evil-{number}.example"}} for number in range(2 * BURST)]
    methods = [{"headers": TOKEN, "method": "PUT"} for _ in range(2 * BURST)]
    *refused, stopped = called(tmp_path, *hosts, *methods, {"headers": TOKEN})
    assert {one.status_code for one in refused} == {403, 405}
    assert stopped.status_code == 200
    assert int(stopped.headers["x-test-refused"]) == BURST


def test_tokens_are_compared_in_constant_time_whatever_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(offered: bytes, token: bytes) -> bool:
        compared.append((offered, token))
        return hmac.compare_digest(offered, token)

    monkeypatch.setattr(stop_url, "compare_digest", compare)
    offered = [{"headers": {"Authorization": one}} for one in (b"Bearer \xe4\xf6", b"Basic x", b"")]
    assert [one.status_code for one in called(tmp_path, *offered)] == [401] * 3
    assert [token for _, token in compared] == [b"k" * 32] * 3


@pytest.mark.parametrize(
    ("call", "status", "said"),
    [
        ({}, 401, "wrong or missing token"),
        ({"headers": {**TOKEN, "Host": "evil.example"}}, 403, "host 'evil.example'; allowed: 127.0.0.1"),
        ({"headers": TOKEN, "content": b"x" * 20_000}, 413, "allowed: up to 16384"),
        ({"headers": {"Host": "["}}, 403, "host '['; allowed: 127.0.0.1"),
        ({"content": b'{"token": "\\ud800"}'}, 401, "wrong or missing token"),
        ({"headers": TOKEN, "content": b"[" * 16_000}, 422, "allowed is a JSON object"),
        ({"headers": TOKEN, "content": b"[1]"}, 422, "allowed is a JSON object"),
        ({"headers": TOKEN, "json": {"reason": "x" * 201}}, 422, "reason of 201 characters; allowed: up to 200"),
        ({"headers": TOKEN, "method": "PUT"}, 405, "allowed: POST"),
    ],
)
def test_what_is_no_stop_is_refused_by_name_and_stops_nothing(
    tmp_path: Path, call: dict[str, object], status: int, said: str
) -> None:
    (answer,) = called(tmp_path, dict(call))
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert (answer.headers["x-test-step"], answer.headers["x-test-refused"]) == ("watch", "1")


def test_a_length_of_thousands_of_digits_is_refused_as_any_other(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, "watch")
    said: list[str] = []
    call = {"REQUEST_METHOD": "POST", "HTTP_HOST": "localhost", "CONTENT_LENGTH": "9" * 5000}
    (body,) = stop_url.StopUrl(StoppedByUrl(guard))(call, lambda status, _: said.append(status))
    guard.store.close()
    assert said[0].startswith("413 ")
    assert b"allowed: up to 16384" in body


def test_the_button_takes_the_token_in_its_form_and_shows_none(tmp_path: Path) -> None:
    page, wrong, stopped = called(
        tmp_path,
        {"method": "GET"},
        {"data": {"token": "<b>", "reason": "x"}},
        {"data": {"token": "k" * 32, "who": "ada", "reason": "lunch"}},
    )
    assert 'type="password"' in page.text
    assert "<script" not in page.text
    assert wrong.status_code == 401
    assert "r/canary: rolling back" in stopped.text
    assert "kkk" not in stopped.text
    assert stopped.headers["x-test-why"] == "ada: lunch"


def test_where_nothing_runs_it_says_so_and_on_the_page_too(tmp_path: Path) -> None:
    answer, page = called(tmp_path, {"headers": TOKEN}, {"data": {"token": "k" * 32}}, step="promoted")
    assert answer.json() == {"what": "account a", "step": "nothing_runs", "written": True}
    assert "account a: nothing runs" in page.text


def test_where_nothing_runs_and_the_record_is_away_it_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "WRITTEN_WITHIN_S", 0.2)
    (answer,) = called(tmp_path, {"headers": TOKEN}, step="promoted", away=True)
    assert (answer.status_code, answer.json()["written"]) == (202, False)


def test_a_guard_that_has_not_begun_or_lost_its_account_file_says_what_else_there_is(tmp_path: Path) -> None:
    guard = guard_at(tmp_path, "watch")
    with served(guard) as url:
        late = httpx.post(f"{url}/stop", headers=TOKEN)
        (guard.folder.accounts / "a.json").write_text("{")
        lost = httpx.post(f"{url}/stop", headers=TOKEN)
        metrics = httpx.get(f"{url}/metrics")
    guard.store.close()
    assert (late.status_code, late.json()["error"]) == (503, "the guard does not answer; use the kill switch")
    assert lost.status_code == 503
    assert "a.json: is not JSON" in lost.json()["error"]
    assert "rollout_guard_beat" in metrics.text
    assert Step.WATCH.value == guard.store.record.stage_run(1).step
