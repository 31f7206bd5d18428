"""One row of positions that does not fit keeps no other from being flattened, and lets nothing be proven."""

from __future__ import annotations

import json
from collections.abc import Sequence

import httpx
import pytest

from bot.runtime.kill_switch import KillSwitch
from bot.runtime.kill_switch_report import Report
from bot.venues.bybit import calls
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.account_positions import PositionsNotWhole
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.port import VenueError, VenueGarbled
from tests.support.small_account import START_NS, SYMBOL, Clock

Row = dict[str, object]
OTHER = "ETHUSDT"
INSTRUMENT = {
    "symbol": SYMBOL,
    "contractType": "LinearPerpetual",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "priceFilter": {"tickSize": "0.1", "minPrice": "0.1", "maxPrice": "199999"},
    "lotSizeFilter": {
        "qtyStep": "0.001",
        "minOrderQty": "0.001",
        "maxOrderQty": "100",
        "maxMktOrderQty": "100",
        "minNotionalValue": "5",
    },
}
BOOK = {"s": SYMBOL, "b": [["50000.1", "1"]], "a": [["50000.2", "1"]], "ts": 1, "u": 1, "seq": 1}


def row(symbol: object = SYMBOL, **odd: object) -> Row:
    return {"symbol": symbol, "side": "Buy", "size": "0.5", "positionIdx": 0, "avgPrice": "50000", **odd}


class Venue:
    """Has no orders, and shows its positions in pages of one; a flatten takes its symbol's away."""

    def __init__(self, *rows: object) -> None:
        self.rows = [*rows]
        self.flattens: list[Row] = []
        self.fails_from_page: int | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, params = request.url.path, request.url.params
        if path == calls.TIME:
            return result({"timeSecond": "1", "timeNano": str(START_NS)})
        if path == calls.INSTRUMENTS:
            return result({"category": "linear", "list": [INSTRUMENT], "nextPageCursor": ""})
        if path == calls.ORDERBOOK:
            return result(BOOK)
        if path == calls.CREATE:
            self.flattens.append(json.loads(request.content))
            self.rows = [one for one in self.rows if not self._is_flat(one)]
            return result({"orderId": "v", "orderLinkId": "c"})
        if path != calls.POSITIONS or params.get("settleCoin") == "USDC":
            return result({"list": []})
        if "symbol" in params:
            own = [
                one for one in self.rows if not isinstance(one, dict) or one.get("symbol") in (params["symbol"], None)
            ]
            return result({"list": own or [row(params["symbol"], side="", size="0", avgPrice="0")]})
        page = int(params.get("cursor") or 0)
        if page == self.fails_from_page:
            return httpx.Response(503)
        left = self.rows[page + 1 :]
        return result({"list": self.rows[page : page + 1], "nextPageCursor": str(page + 1) if left else ""})

    def _is_flat(self, one: object) -> bool:
        return isinstance(one, dict) and one.get("symbol") == self.flattens[-1]["symbol"]

    def client(self) -> AccountClient:
        hosts, transport = BybitHosts("http://venue", "", "", ""), httpx.MockTransport(self)
        return AccountClient(hosts, "key", "secret", wall_ms=lambda: START_NS // 10**6, http_transport=transport)

    def kill(self, symbols: Sequence[str] = (), *, execute: bool = True, flatten: bool = True) -> Report:
        clock = Clock()
        with self.client() as client:
            return KillSwitch(client, symbols, late_s=0.0).run(execute, flatten, 5.0, clock, clock.wait)


def result(value: object, code: int = 0) -> httpx.Response:
    return httpx.Response(200, json={"retCode": code, "retMsg": "m", "result": value})


ODD = [{"size": "much"}, {"size": None}, {"size": "-1"}, {"side": "Both"}, {"positionIdx": 1}, {"avgPrice": "0"}]


@pytest.mark.parametrize("symbols", [(), (OTHER, SYMBOL)], ids=["account", "symbols"])
@pytest.mark.parametrize("odd", ODD, ids=[f"{name}={value}" for one in ODD for name, value in one.items()])
def test_the_other_positions_are_flattened_and_nothing_is_proven(odd: Row, symbols: Sequence[str]) -> None:
    unfit = row(OTHER, **odd)
    venue = Venue(unfit, row())
    report = venue.kill(symbols)
    assert venue.rows == [unfit]
    assert [one["symbol"] for one in venue.flattens] == [SYMBOL], "and what is not known is not traded"
    assert (report.status, report.exit_code, report.flattened) == ("failed", 1, False)
    assert any(one.startswith("reading positions failed") and OTHER in one for one in report.errors)


@pytest.mark.parametrize("nothing", [7, None, [], {}])
def test_a_row_that_names_no_symbol_keeps_no_other_from_being_flattened(nothing: object) -> None:
    venue = Venue(nothing, row())
    report = venue.kill()
    assert (venue.rows, report.status, len(venue.flattens)) == ([nothing], "failed", 1)


def test_two_rows_of_a_symbol_of_which_one_does_not_fit_are_no_position_that_is_known() -> None:
    venue = Venue(row(), row(size="much"))
    assert venue.kill().status == "failed"
    assert venue.flattens == []


def test_what_the_pages_before_one_that_fails_have_shown_is_flattened() -> None:
    venue = Venue(row(), row(OTHER))
    venue.fails_from_page = 1
    report = venue.kill()
    assert ([one["symbol"] for one in venue.flattens], report.status) == ([SYMBOL], "failed")


def test_what_was_flattened_and_is_not_shown_any_more_is_not_in_the_report() -> None:
    venue = Venue(row())
    report = venue.kill()
    assert (report.status, report.flattened, report.positions, venue.rows) == ("executed", True, [], [])


def test_a_look_alone_says_it_and_sends_nothing() -> None:
    venue = Venue(row(OTHER, size="much"), row())
    report = venue.kill(execute=False)
    assert (report.status, venue.flattens) == ("failed", [])
    assert [(one.symbol, one.qty) for one in report.positions] == [(SYMBOL, "0.5")]


def test_whoever_reads_the_account_is_told_that_it_is_not_whole() -> None:
    with Venue(row(OTHER, size="much"), row()).client() as client:
        with pytest.raises(PositionsNotWhole, match=r"size: .*much.*, in the row of ETHUSDT") as caught:
            client.positions(())
        assert [one.symbol for one in caught.value.positions] == [SYMBOL]
        with pytest.raises(VenueError):
            client.positions((OTHER,))
    with Venue(7).client() as client, pytest.raises(VenueGarbled):
        client.positions(())
    with Venue().client() as client:
        assert client.positions(()) == []
