"""pybit, the venue's own client for Python, judges the simulated venue's requests and errors."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pybit._helpers
import pytest
from pybit.exceptions import InvalidRequestError
from pybit.unified_trading import HTTP

from tests.support.judged_venue import SYMBOL, JudgedVenue, Key, eventually
from tests.support.pybit_client import HERE, http, refused, terms, touch

pytestmark = pytest.mark.integration

GOLDEN = Path(__file__).parents[1] / "contract" / "golden"


@pytest.fixture
def key(judged_venue: JudgedVenue) -> Key:
    return judged_venue.key()


@pytest.fixture
def client(judged_venue: JudgedVenue, key: Key) -> HTTP:
    return http(judged_venue, key)


def test_time_instruments_book_tickers_limits_and_trades_read(judged_venue: JudgedVenue) -> None:
    client = http(judged_venue)
    server = client.get_server_time()
    assert int(server["result"]["timeNano"]) // 1_000_000 == server["time"]
    page = client.get_instruments_info(category="linear", limit=1)["result"]
    assert [(row["symbol"], row["status"]) for row in page["list"]] == [(SYMBOL, "Trading")]
    assert page["nextPageCursor"] == ""
    assert client.get_instruments_info(category="linear", cursor="page_token%3D1%26")["result"]["list"] == []
    assert client.get_instruments_info(category="linear", status="PreLaunch")["result"]["list"] == []
    assert client.get_instruments_info(category="spot")["result"]["list"] == []
    bid, ask = touch(client)
    ticker = client.get_tickers(**HERE)["result"]["list"][0]
    limits = client.get_price_limit(**HERE)["result"]
    assert Decimal(limits["sellLmt"]) < bid < ask < Decimal(limits["buyLmt"])
    assert Decimal(ticker["lowPrice24h"]) <= Decimal(ticker["lastPrice"]) <= Decimal(ticker["highPrice24h"])
    trades = client.get_public_trade_history(**HERE, limit=2)["result"]["list"]
    assert len(trades) <= 2
    for wrong in (
        {"category": "moon"},
        {"category": "linear", "symbol": "NOPEUSDT"},
        {"category": "linear", "limit": 0},
    ):
        with refused(10001):
            client.get_instruments_info(**wrong)


def test_answers_have_every_field_of_the_golden_messages(client: HTTP) -> None:
    client.place_order(category="linear", **terms(client, "golden-1"))
    client.place_order(**HERE, side="Buy", orderType="Market", qty="0.001")
    answers = {
        "rest_open_orders": client.get_open_orders(**HERE),
        "rest_executions": client.get_executions(**HERE),
        "rest_position_short": client.get_positions(**HERE),
        "rest_wallet": client.get_wallet_balance(accountType="UNIFIED"),
        "rest_instrument_linear": client.get_instruments_info(**HERE),
        "rest_key_information": client.get_api_key_information(),
    }
    for name, answer in answers.items():
        golden = json.loads((GOLDEN / f"{name}.json").read_text())["result"]
        wanted, found = golden, answer["result"]
        if "list" in golden:
            wanted, found = golden["list"][0], found["list"][0]
        missing = set(wanted) - set(found) - {"category"}  # said once, of the whole page
        assert not missing, name


def test_an_order_lives_is_amended_cancelled_and_found_in_history(client: HTTP) -> None:
    made = client.place_order(category="linear", **terms(client, "life-1"))["result"]
    price = str(touch(client)[0] - 700)
    client.amend_order(**HERE, orderLinkId="life-1", price=price, qty="0.008")
    (shown,) = client.get_open_orders(**HERE)["result"]["list"]
    assert (shown["orderId"], shown["price"], shown["qty"]) == (made["orderId"], price, "0.008")
    with refused(10001):
        client.amend_order(**HERE, orderLinkId="life-1", price=price, qty="0.008")
    assert client.cancel_order(**HERE, orderId=made["orderId"])["result"]["orderLinkId"] == "life-1"
    assert client.get_open_orders(**HERE)["result"]["list"] == []
    (ended,) = client.get_order_history(**HERE, orderLinkId="life-1")["result"]["list"]
    assert (ended["orderStatus"], ended["cancelType"]) == ("Cancelled", "CancelByUser")
    with refused(110001):
        client.cancel_order(**HERE, orderId=made["orderId"])
    with refused(110072):
        client.place_order(category="linear", **terms(client, "life-1"))


@pytest.mark.parametrize(
    ("tag", "ended"),
    [("CancelMaker", {"maker"}), ("CancelTaker", {"taker"}), ("CancelBoth", {"maker", "taker"}), ("None", set())],
)
def test_an_order_is_kept_from_its_own_account_by_the_takers_tag(
    judged_venue: JudgedVenue, tag: str, ended: set[str]
) -> None:
    client = http(judged_venue, judged_venue.key("100000000"))
    price = str(touch(client)[0] - 200)  # a third of a per cent: no trade of the market is there before the taker
    resting = {**HERE, "side": "Buy", "orderType": "Limit", "qty": "0.010", "price": price}
    made = {"maker": client.place_order(**resting, smpType="CancelBoth", orderLinkId="maker")}
    sweep = {**HERE, "side": "Sell", "orderType": "Limit", "qty": "100", "price": price, "timeInForce": "IOC"}
    made["taker"] = client.place_order(**sweep, smpType=tag, orderLinkId="taker")
    rows = {row["orderLinkId"]: row for row in client.get_order_history(**HERE)["result"]["list"]}
    rows |= {row["orderLinkId"]: row for row in client.get_open_orders(**HERE)["result"]["list"]}
    assert rows["taker"]["smpType"] == tag
    assert {name for name, row in rows.items() if row["cancelType"] == "CancelBySmp"} == ended
    for name in ended:
        other = {"maker": "taker", "taker": "maker"}[name]
        reason = (rows[name]["rejectReason"], rows[name]["smpOrderId"])
        assert reason == ("EC_BySelfMatch", made[other]["result"]["orderId"])
    mine = {row["orderLinkId"] for row in client.get_executions(**HERE)["result"]["list"]}
    assert ("maker" in mine) is (tag == "None")


def test_history_is_paged_from_the_newest_on(client: HTTP) -> None:
    for number in range(3):
        client.place_order(category="linear", **terms(client, f"page-{number}"))
    assert len(client.cancel_all_orders(**HERE)["result"]["list"]) == 3
    seen: list[str] = []
    cursor: str | None = None
    while cursor != "":
        page = client.get_order_history(**HERE, limit=2, cursor=cursor)["result"]
        seen += [row["orderLinkId"] for row in page["list"]]
        cursor = page["nextPageCursor"]
    assert seen == ["page-2", "page-1", "page-0"]


def test_a_batch_that_outruns_its_bucket_succeeds_in_part(client: HTTP) -> None:
    one = terms(client, "")
    request = [{**one, "orderLinkId": f"batch-{number}"} for number in range(12)]
    answer = client.place_batch_order(category="linear", request=request)
    codes = [end["code"] for end in answer["retExtInfo"]["list"]]
    assert codes == [0] * 10 + [10006] * 2
    rows = answer["result"]["list"]
    assert [bool(row["orderId"]) for row in rows] == [True] * 10 + [False] * 2
    named = [{"symbol": SYMBOL, "orderLinkId": row["orderLinkId"]} for row in rows[:2]]
    changed = client.amend_batch_order(category="linear", request=[{**name, "qty": "0.020"} for name in named])
    assert [end["msg"] for end in changed["retExtInfo"]["list"]] == ["OK", "OK"]
    gone = client.cancel_batch_order(category="linear", request=[named[0], named[0]])
    assert [end["code"] for end in gone["retExtInfo"]["list"]] == [0, 110001]
    assert len(client.cancel_all_orders(**HERE)["result"]["list"]) == 9
    with refused(10001):
        client.place_batch_order(category="linear", request=[one] * 21)


def test_fees_key_and_account_read(client: HTTP, key: Key) -> None:
    (fees,) = client.get_fee_rates(**HERE)["result"]["list"]
    assert (fees["makerFeeRate"], fees["takerFeeRate"]) == ("0.0002", "0.00055")
    information = client.get_api_key_information()["result"]
    assert (information["apiKey"], information["readOnly"], information["uta"]) == (key.api_key, 0, 1)
    assert client.get_account_info()["result"]["dcpStatus"] == "OFF"
    assert [row["coin"] for row in client.get_coin_info(coin="USDT")["result"]["rows"]] == ["USDT"]


def test_past_the_rate_it_is_told_when_to_come_back_and_that_is_true(judged_venue: JudgedVenue, key: Key) -> None:
    client = http(judged_venue, key)

    def refusal() -> InvalidRequestError | None:
        try:
            client.get_fee_rates(**HERE)
        except InvalidRequestError as error:
            return error
        return None

    told = eventually(refusal, lambda found: found is not None)
    assert told is not None
    assert told.status_code == 10006
    assert (told.resp_headers["X-Bapi-Limit"], told.resp_headers["X-Bapi-Limit-Status"]) == ("5", "0")
    resets_at_ms = int(told.resp_headers["X-Bapi-Limit-Reset-Timestamp"])
    eventually(client.get_server_time, lambda answer: answer["time"] >= resets_at_ms)
    answer, _, headers = http(judged_venue, key, return_response_headers=True).get_fee_rates(**HERE)
    assert (answer["retCode"], headers["X-Bapi-Limit-Status"]) == (0, "4")


def test_a_wrong_signature_an_unknown_key_and_a_stale_clock_are_told_apart(
    judged_venue: JudgedVenue, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused(10004):
        http(judged_venue, key._replace(api_secret="wrong")).get_account_info()
    with refused(10003):
        http(judged_venue, key._replace(api_key="unknown")).get_account_info()
    now_ms = pybit._helpers.generate_timestamp()
    for stamp in (now_ms - 120_000, now_ms + 120_000):
        monkeypatch.setattr(pybit._helpers, "generate_timestamp", lambda stamp=stamp: stamp)
        with refused(10002):
            http(judged_venue, key).get_account_info()
