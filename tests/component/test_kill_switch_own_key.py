"""The kill switch's own key is used where the venue says that it opens the account of the account's key; where that is
not so the account's key serves, and under a key of which nobody knows whose it is nothing is ever proven."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from bot.runtime.kill_switch_command import run_command
from bot.venues.bybit import account_client, calls
from tests.support.small_account import SYMBOL

ACCOUNTS, OWN = "account-0123456789", "own-key-0123456789"
ENVIRON = {
    "BYBIT_API_KEY": ACCOUNTS,
    "BYBIT_API_SECRET": "secret-0123456789",
    "BYBIT_KILL_SWITCH_API_KEY": OWN,
    "BYBIT_KILL_SWITCH_API_SECRET": "own-secret-0123456",
    "MM_VENUE_REST_URL": "http://127.0.0.1:9",
    "EXCHANGE_ENV": "testnet",
}
REFUSED, AWAY = 10003, 503
UNPROVEN = ("--deadline-s", "2")
"""Where it proves nothing: what it can do it does in its first round, however slow. What it proves has a minute."""


class Venue:
    """Account 7, where an order of ours stands and a position, and account 8, with a stranger's."""

    def __init__(self) -> None:
        self.opens = {ACCOUNTS: 7, OWN: 7}
        self.answer: dict[tuple[str, str], int] = {}
        """(key, path) to what it is answered with instead; path "": every one"""
        self.orders = {7: [order("slwq-1-1")], 8: [order("slwq-2-2"), order("hand-1")]}
        self.qty = {7: 1, 8: 1}
        self.posts: list[tuple[str, str]] = []
        self.on_call: Callable[[str, str], None] = lambda _key, _path: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, key = request.url.path, request.headers.get("X-BAPI-API-KEY", "")
        if path == calls.TIME:
            return result({"timeSecond": "1", "timeNano": "1700000000000000000"})
        if path == calls.ORDERBOOK:
            return result({"s": SYMBOL, "b": [["50000", "1"]], "a": [["50001", "1"]], "ts": 1, "u": 1, "seq": 1})
        if path == calls.INSTRUMENTS:
            return result({"list": [INSTRUMENT]})
        self.on_call(key, path)
        code = self.answer.get((key, path), self.answer.get((key, ""), 0))
        if code:
            return httpx.Response(code) if code == AWAY else result({}, code)
        account = self.opens[key]
        if path == calls.KEY_INFORMATION:
            return result({"readOnly": 0, "permissions": {}, "userID": account})
        if request.method == "POST":
            return self._posted(key, path, account, json.loads(request.content))
        if path == calls.POSITIONS:
            return result({"list": [position(self.qty[account])]})
        return result({"list": [] if request.url.params.get("settleCoin") == "USDC" else self.orders[account]})

    def _posted(self, key: str, path: str, account: int, body: dict[str, str]) -> httpx.Response:
        self.posts.append((key, path))
        if path == calls.CREATE:
            self.qty[account] = 0
            return result({"orderId": "v-flatten"})
        gone = self.orders[account]
        if path != calls.CANCEL_ALL:
            gone = [one for one in gone if one["orderId"] == body.get("orderId")]
        self.orders[account] = [one for one in self.orders[account] if one not in gone]
        return result({"orderId": "v", "list": [{"orderId": one["orderId"]} for one in gone]})


def order(name: str) -> dict[str, str]:
    return {
        "symbol": SYMBOL, "orderId": f"v-{name}", "orderLinkId": name, "side": "Buy", "price": "1", "qty": "1",
        "cumExecQty": "0", "orderStatus": "New",
    }  # fmt: skip


def position(qty: int) -> dict[str, str]:
    return {"symbol": SYMBOL, "side": "Buy" if qty else "", "size": str(qty), "avgPrice": "50000"}


INSTRUMENT = {
    "symbol": SYMBOL, "status": "Trading", "baseCoin": "BTC", "quoteCoin": "USDT", "settleCoin": "USDT",
    "contractType": "LinearPerpetual", "priceFilter": {"tickSize": "0.1"},
    "lotSizeFilter": {"qtyStep": "0.001", "minOrderQty": "0.001", "maxOrderQty": "100", "maxMktOrderQty": "100",
                      "postOnlyMaxOrderQty": "100", "minNotionalValue": "5"},
}  # fmt: skip


def result(value: object, code: int = 0) -> httpx.Response:
    return httpx.Response(200, json={"retCode": code, "retMsg": "m", "result": value})


@pytest.fixture
def venue(monkeypatch: pytest.MonkeyPatch) -> Venue:
    made = Venue()
    monkeypatch.setattr(account_client, "TimedTransport", lambda _call_s_max: httpx.MockTransport(made))
    return made


class Ended:
    """A run of the command, to its end."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str], environ: dict[str, str], *words: str) -> None:
        report = folder / "r.json"
        given = ["--execute", "--symbols", SYMBOL, "--late-s", "0", "--quiet-s", "0.5", "--deadline-s", "60"]
        self.code = run_command([*given, "--report", str(report), *words], environ)
        self.said = capfd.readouterr().err
        found = json.loads(report.read_text())
        self.status, self.flattened = found["status"], found["flattened"]
        self.errors = " ".join(found["errors"])


def cancelled_by(venue: Venue) -> set[str]:
    return {key for key, path in venue.posts if path in (calls.CANCEL, calls.CANCEL_ALL)}


def test_where_both_open_the_same_account_its_own_is_used(
    venue: Venue, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = Ended(tmp_path, capfd, ENVIRON, "--flatten")
    assert (ended.code, ended.status, ended.flattened, ended.said) == (0, "executed", True, "")
    assert (cancelled_by(venue), venue.orders[7], venue.qty[7]) == ({OWN}, [], 0)


@pytest.mark.parametrize("code", [REFUSED, 33004, 10010])
def test_where_its_own_is_refused_the_accounts_serves_and_that_is_said(
    venue: Venue, tmp_path: Path, capfd: pytest.CaptureFixture[str], code: int
) -> None:
    venue.answer = {(OWN, ""): code}
    ended = Ended(tmp_path, capfd, ENVIRON, "--flatten")
    assert (ended.code, ended.status, ended.flattened) == (0, "executed", True)
    assert (cancelled_by(venue), venue.orders[7]) == ({ACCOUNTS}, [])
    assert f"own key is not used: {calls.KEY_INFORMATION}: {code} m" in ended.said
    assert "own key is not used" in ended.errors


def test_where_its_own_is_another_accounts_the_accounts_serves_and_nothing_is_done_there(
    venue: Venue, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    venue.opens[OWN] = 8
    ended = Ended(tmp_path, capfd, ENVIRON, "--flatten", "--foreign-orders", "cancel")
    assert (ended.code, ended.status) == (0, "executed")
    assert (cancelled_by(venue), venue.orders[7], len(venue.orders[8]), venue.qty[8]) == ({ACCOUNTS}, [], 2, 1)
    assert "opens account 8, the account's key 7" in ended.said
    assert "opens account 8, the account's key 7" in ended.errors


@pytest.mark.parametrize("opens", [7, 8])
def test_where_the_accounts_is_refused_its_own_cancels_what_is_ours_and_proves_nothing(
    venue: Venue, tmp_path: Path, capfd: pytest.CaptureFixture[str], opens: int
) -> None:
    venue.opens[OWN] = opens
    venue.answer = {(ACCOUNTS, ""): REFUSED}
    ended = Ended(tmp_path, capfd, ENVIRON, "--flatten", "--foreign-orders", "cancel", *UNPROVEN)
    assert (ended.code, ended.status, ended.flattened) == (1, "failed", False)
    assert "nobody knows whether" in ended.said
    assert "nobody knows whether" in ended.errors
    left = {name: [one["orderLinkId"] for one in rows] for name, rows in venue.orders.items()}
    assert left == ({7: [], 8: ["slwq-2-2", "hand-1"]} if opens == 7 else {7: ["slwq-1-1"], 8: ["hand-1"]})
    assert venue.qty == {7: 1, 8: 1}, "it may be another account's: none is closed"


@pytest.mark.parametrize("away", [ACCOUNTS, OWN])
def test_where_the_venue_does_not_say_whose_one_is_the_accounts_serves(
    venue: Venue, tmp_path: Path, capfd: pytest.CaptureFixture[str], away: str
) -> None:
    venue.answer = {(away, calls.KEY_INFORMATION): AWAY}
    ended = Ended(tmp_path, capfd, ENVIRON)
    assert (ended.code, ended.status, cancelled_by(venue)) == (0, "executed", {ACCOUNTS})
    assert "own key is not used" in ended.said


def test_an_accounts_key_that_proves_refused_only_later_gives_way_to_its_own_without_proof(
    venue: Venue, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    venue.answer = {(ACCOUNTS, calls.KEY_INFORMATION): AWAY, (ACCOUNTS, ""): REFUSED}
    ended = Ended(tmp_path, capfd, ENVIRON, "--flatten", *UNPROVEN)
    assert (ended.code, ended.status, cancelled_by(venue), venue.qty[7]) == (1, "failed", {OWN}, 1)
    assert "nobody knows whether" in ended.errors


def test_its_own_that_ends_in_the_middle_gives_way_to_the_accounts(
    venue: Venue, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def ends(key: str, path: str) -> None:
        if (key, path) == (OWN, calls.CANCEL_ALL):
            venue.answer = {(OWN, ""): 33004}

    venue.on_call = ends
    ended = Ended(tmp_path, capfd, ENVIRON)
    assert (ended.code, ended.status, cancelled_by(venue), venue.orders[7]) == (0, "executed", {ACCOUNTS}, [])
    assert "own key is refused by now" in ended.said


@pytest.mark.parametrize("missing", [("BYBIT_API_SECRET",), ("BYBIT_API_KEY", "BYBIT_API_SECRET")])
def test_where_no_account_has_a_key_its_own_alone_says_which_account_is_meant(
    venue: Venue, tmp_path: Path, capfd: pytest.CaptureFixture[str], missing: tuple[str, ...]
) -> None:
    whole = len(missing) == 2
    ended = Ended(tmp_path, capfd, ENVIRON | dict.fromkeys(missing, ""), *(() if whole else UNPROVEN))
    assert (ended.code, ended.status) == ((0, "executed") if whole else (1, "failed"))
    assert venue.orders[7] == []
    assert ("BYBIT_API_SECRET is not set" in ended.errors) is not whole
