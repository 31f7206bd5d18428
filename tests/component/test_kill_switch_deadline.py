"""A kill switch that has a deadline ends by it, however long a round of calls would go on, and claims nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.runtime import kill_switch_command
from bot.runtime.kill_switch_command import run_command
from bot.venues.bybit import account_client, calls
from bot.venues.bybit.timed_transport import TimedTransport
from bot.venues.port import VenueUnknown
from tasks import venue_desk
from tests.support import small_account
from tests.support.small_account import SYMBOL, Account, Clock

ORDERS = 40
CALL_S = 3.0
"""What the venue here takes for each answer, by the clock of the run."""
KEY = {"BYBIT_API_KEY": "key-0123456789ab", "BYBIT_API_SECRET": "secret-0123456789"}
OWN_KEY = {"BYBIT_KILL_SWITCH_API_KEY": "own-0123456789ab", "BYBIT_KILL_SWITCH_API_SECRET": "own-secret-01234"}


class Slow:
    """Many own orders beside one of somebody else, so that each is cancelled by itself. `asked`: path, when, time left.

    A call that has less time than its answer takes ends when that is over, without an answer.
    """

    def __init__(self, answer_s: float = CALL_S) -> None:
        self.now_s, self.answer_s = 0.0, answer_s
        self.asked: list[tuple[str, float, float]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        left_s = request.extensions.get("left_s", math.inf)
        self.asked.append((request.url.path, self.now_s, left_s))
        self.now_s += min(self.answer_s, left_s)
        if left_s < self.answer_s:
            raise httpx.ReadTimeout("the whole answer took too long")
        return httpx.Response(200, json={"retCode": 0, "retMsg": "OK", "result": self._result(request.url.path)})

    def _result(self, path: str) -> object:
        if path == calls.TIME:
            return {"timeSecond": "1", "timeNano": str(time.time_ns())}
        if path == calls.KEY_INFORMATION:
            return {"userID": 7}
        if path == calls.OPEN_ORDERS:
            return {"list": [order(f"slwq-1-{n}") for n in range(ORDERS)] + [order("hand-1")]}
        return {"list": [], "orderId": "v"}


def order(name: str) -> dict[str, str]:
    return {
        "symbol": SYMBOL, "orderId": f"v-{name}", "orderLinkId": name, "side": "Buy", "price": "1", "qty": "1",
        "cumExecQty": "0", "orderStatus": "New",
    }  # fmt: skip


def run(
    venue: Slow, monkeypatch: pytest.MonkeyPatch, report: Path, deadline_s: int, environ: dict[str, str]
) -> tuple[int, str]:
    monkeypatch.setattr(account_client, "TimedTransport", lambda _call_s_max: httpx.MockTransport(venue))
    monkeypatch.setattr(kill_switch_command, "_steady_clock", lambda: lambda: int(venue.now_s * 1e9))
    monkeypatch.setattr(kill_switch_command.time, "sleep", lambda wait_s: setattr(venue, "now_s", venue.now_s + wait_s))
    words = ["--execute", "--symbols", SYMBOL, "--late-s", "0", "--deadline-s", str(deadline_s)]
    code = run_command([*words, "--report", str(report)], {**environ, "EXCHANGE_ENV": "testnet"})
    return code, report.read_text()


def test_a_round_of_many_slow_calls_ends_with_the_deadline_and_claims_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue = Slow()
    code, report = run(venue, monkeypatch, tmp_path / "r.json", 20, KEY)
    assert (code, '"failed"' in report) == (1, True)
    assert venue.now_s <= 20
    assert all(at_s < 20 and left_s <= 20 - at_s for _, at_s, left_s in venue.asked)
    assert sum(path == calls.CANCEL for path, _, _ in venue.asked) > 1


def test_asking_whose_a_key_is_leaves_half_of_the_time_for_cancelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue = Slow(answer_s=1.5)
    code, _ = run(venue, monkeypatch, tmp_path / "r.json", 4, KEY | OWN_KEY)
    assert code == 1
    assert next(at_s for path, at_s, _ in venue.asked if path == calls.OPEN_ORDERS) <= 2 + 1.5
    assert venue.now_s <= 4


class Far(Account):
    """Each of its answers takes as long. A call that has less time than that ends when it is over."""

    def __init__(self, answer_s: float, own: int, qty: str) -> None:
        super().__init__(own, qty=qty)
        self.clock, self.answer_s = Clock(), answer_s
        self.left_s: Callable[[], float] = lambda: math.inf

    @contextmanager
    def within(self, left_s: Callable[[], float]) -> Iterator[None]:
        self.left_s = left_s
        yield

    def _call(self, name: str) -> None:
        left_s = self.left_s()
        self.clock.wait(max(0.0, min(left_s, self.answer_s)))
        if left_s < self.answer_s:
            raise VenueUnknown(f"{name}: no answer in time")


@pytest.mark.parametrize(
    ("flatten", "deadline_s"), [(False, venue_desk.CANCEL_DEADLINE_S), (True, venue_desk.FLATTEN_DEADLINE_S)]
)
def test_a_run_of_the_guards_has_the_time_to_prove_it_at_a_venue_that_is_far_away(
    flatten: bool, deadline_s: float
) -> None:
    """Every try has the same time, so what does not do for one does for none."""
    account = Far(answer_s=0.3, own=6, qty="1")
    known = [(SYMBOL, one.client_order_id) for one in account.orders]
    given: dict[str, Any] = {"symbols": (), "positions_of": (SYMBOL,), "known": lambda: known}
    report = small_account.run(account, flatten=flatten, clock=account.clock, deadline_s=deadline_s, **given)
    assert (report.status, report.errors) == ("executed", [])
    assert account.qty == (0 if flatten else 1)


def test_a_name_that_nobody_looks_up_holds_up_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.venues.bybit.timed_transport.socket.getaddrinfo", lambda *_, **__: time.sleep(20))
    with httpx.Client(transport=TimedTransport(30.0)) as http:
        began_s = time.monotonic()
        with pytest.raises(httpx.ConnectTimeout):
            http.get("http://venue.test/", extensions={"left_s": 0.5}, timeout=30.0)
    assert time.monotonic() - began_s < 10
