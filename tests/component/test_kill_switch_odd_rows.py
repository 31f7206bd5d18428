"""One row of open orders that does not fit keeps nothing of ours from being cancelled, and lets nothing be proven."""

from __future__ import annotations

import json
from collections.abc import Sequence

import httpx
import pytest

from bot.runtime.kill_switch import KillSwitch
from bot.runtime.kill_switch_report import Report
from bot.venues.bybit import calls
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.account_orders import OrdersNotWhole
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.port import VenueGarbled
from tests.support.small_account import START_NS, SYMBOL, Clock

Row = dict[str, object]


def row(client_order_id: object, **odd: object) -> Row:
    fits: Row = {"symbol": SYMBOL, "orderId": f"v-{client_order_id}", "orderLinkId": client_order_id, "side": "Buy"}
    return {**fits, "price": "100", "qty": "1", "cumExecQty": "0", "orderStatus": "New", **odd}


class Venue:
    """Shows its rows in pages of two, cancels by id, and says that one it does not know has ended."""

    def __init__(self, *rows: object) -> None:
        self.rows = [*rows]
        self.posts: list[dict[str, str]] = []
        self.fails_from_page: int | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, params = request.url.path, request.url.params
        if path == calls.TIME:
            return result({"timeSecond": "1", "timeNano": str(START_NS)})
        if request.method == "POST":
            return self._cancel(path, json.loads(request.content))
        if path == calls.POSITIONS or params.get("settleCoin") == "USDC":
            return result({"list": []})
        page = int(params.get("cursor", "0"))
        if page == self.fails_from_page:
            return httpx.Response(503)
        left = self.rows[2 * page + 2 :]
        return result({"list": self.rows[2 * page : 2 * page + 2], "nextPageCursor": str(page + 1) if left else ""})

    def _cancel(self, path: str, body: dict[str, str]) -> httpx.Response:
        self.posts.append(body)
        if path == calls.CANCEL_ALL:
            assert not self.rows, "somebody's order that nobody has looked at is among them"
            return result({"list": []})
        gone = [one for one in self.rows if isinstance(one, dict) and self._is(one, body)]
        self.rows = [one for one in self.rows if one not in gone]
        return result({"orderId": "v"}) if gone else result({}, 110001)

    @staticmethod
    def _is(one: Row, body: dict[str, str]) -> bool:
        if "orderId" in body:
            return body["orderId"] == one.get("orderId")
        return body["orderLinkId"] == one.get("orderLinkId")

    def client(self) -> AccountClient:
        hosts, transport = BybitHosts("http://venue", "", "", ""), httpx.MockTransport(self)
        return AccountClient(hosts, "key", "secret", wall_ms=lambda: START_NS // 10**6, http_transport=transport)

    def kill(self, symbols: Sequence[str] = (), *, execute: bool = True) -> Report:
        clock = Clock()
        with self.client() as client:
            return KillSwitch(client, symbols, late_s=0.0).run(execute, False, 5.0, clock, clock.wait)


def result(value: object, code: int = 0) -> httpx.Response:
    return httpx.Response(200, json={"retCode": code, "retMsg": "m", "result": value})


ODD = [{"qty": ""}, {"price": None}, {"side": "Both"}, {"cumExecQty": "much"}, {"orderStatus": 3}, {"orderId": None}]


@pytest.mark.parametrize("symbols", [(), (SYMBOL,)], ids=["account", "symbol"])
@pytest.mark.parametrize("odd", ODD, ids=[next(iter(one)) for one in ODD])
def test_an_odd_row_of_somebody_else_keeps_none_of_ours_from_being_cancelled_and_nothing_is_proven(
    odd: Row, symbols: Sequence[str]
) -> None:
    foreign = row("hand-1", **odd)
    venue = Venue(row("slwq-1-1"), foreign, row("slwq-1-2"))
    report = venue.kill(symbols)
    assert venue.rows == [foreign]
    assert (report.status, report.exit_code, report.cancelled, report.reads) == ("failed", 1, 2, [])
    assert [error for error in report.errors if error.startswith("reading open orders failed") and "hand-1" in error]


@pytest.mark.parametrize("symbols", [(), (SYMBOL,)], ids=["account", "symbol"])
@pytest.mark.parametrize("odd", ODD, ids=[next(iter(one)) for one in ODD])
def test_an_odd_row_of_ours_is_cancelled_by_its_own_id(odd: Row, symbols: Sequence[str]) -> None:
    venue = Venue(row("slwq-1-1", **odd), row("slwq-1-2"))
    report = venue.kill(symbols)
    assert venue.rows == []
    assert (report.status, report.cancelled) == ("executed", 2), "and once no such row is shown the reads prove it"
    assert "slwq-1-1" in {body.get("orderLinkId") for body in venue.posts}


def test_an_odd_row_of_ours_that_stands_for_ever_is_asked_to_go_once_more_and_no_flood_comes_of_it() -> None:
    venue = Venue(row("slwq-1-1", qty=""))
    venue._is = lambda _one, _body: False  # type: ignore[method-assign]  # it is shown, and the venue says that it has ended
    report = venue.kill()
    assert (report.status, report.cancelled, len(venue.posts)) == ("failed", 0, 1)


@pytest.mark.parametrize("nothing", [7, None, [], {}, {"symbol": SYMBOL, "orderLinkId": None}])
def test_a_row_that_names_nobody_proves_nothing_and_keeps_none_from_being_cancelled(nothing: object) -> None:
    venue = Venue(nothing, row("slwq-1-1"))
    assert (venue.kill().status, venue.rows) == ("failed", [nothing])


def test_without_its_symbol_an_order_of_ours_cannot_be_cancelled_in_a_look_at_the_account_which_is_said() -> None:
    venue = Venue(row("slwq-1-1", symbol=None))
    report = venue.kill()
    assert (report.status, venue.posts) == ("failed", [])
    assert "cancel of slwq-1-1 failed: the venue does not show its symbol" in " ".join(report.errors)
    assert venue.kill([SYMBOL]).status == "executed", "where one symbol was asked for, it is that one"


def test_what_the_pages_before_one_that_fails_have_shown_is_cancelled() -> None:
    others = [row(f"hand-{number}") for number in (1, 2, 3)]
    venue = Venue(row("slwq-1-1"), *others)
    venue.fails_from_page = 1
    report = venue.kill()
    assert (report.status, report.cancelled, venue.rows) == ("failed", 1, others)


def test_a_look_alone_says_it_and_sends_nothing() -> None:
    venue = Venue(row("slwq-1-1"), row("hand-1", qty=""))
    report = venue.kill(execute=False)
    assert (report.status, report.reads, venue.posts) == ("failed", [], [])


def test_whoever_reads_the_account_is_told_that_it_is_not_whole() -> None:
    with Venue(row("slwq-1-1"), row("hand-1", qty="")).client() as client, pytest.raises(OrdersNotWhole) as caught:
        client.open_orders(())
    assert [one.client_order_id for one in caught.value.orders] == ["slwq-1-1"]
    assert [(one.symbol, one.client_order_id, one.venue_order_id) for one in caught.value.unfit] == [
        (SYMBOL, "hand-1", "v-hand-1")
    ]
    with Venue(7).client() as client, pytest.raises(VenueGarbled):
        client.open_orders(())
