"""Bybit's own documented examples, where they lie beside this checkout: what is read of them is what stands there.

They are not ours to copy; tests/contract/golden has messages of the same shapes with values of our own. Every example
is read as the adapter reads it, through `wire` and on through `decode`, or stands in a list with the reason why not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from bot.domain.events import BookDelta, BookSnapshot, Filled, OrderStatus, VenueOrder
from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.venues.bybit import decode, wire
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.signing import socket_auth
from bot.venues.bybit.sockets import PING, operation, push_of
from bot.venues.bybit.trade_text import AnswerText
from bot.venues.port import VenueGarbled
from tests.support.documented import Compared, kinds_of

EXAMPLES = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "bybit_v5"
NOT_HERE = "the documented examples are not beside this checkout"
BESIDE = pytest.mark.skipif(not EXAMPLES.is_dir(), reason=NOT_HERE)
FINE = Decimal("0.00000001")

NOT_READ = {
    "account__dcp-info__1": "what disconnect-cancel is set to is set anew with each connection, never asked for",
    "market__order-price-limit__1": "the collar is the bot's own; the venue's is met as a refusal",
    "market__recent-trade__1": "trades are read from their topic",
    "market__tickers__1": "inverse contracts are not traded, and tickers not read",
    "market__tickers__2": "options are not traded, and tickers not read",
    "market__tickers__3": "tickers are not read",
    "position__close-pnl__1": "profit is the ledger's, from executions",
    "websocket__private__fast-execution__1": "never subscribed: its rows have no fee, and no order link id for makers",
    "websocket__private__fast-execution__2": "never subscribed: its rows have no fee, and no order link id for makers",
    "websocket__public__ticker__1": "tickers are not read",
    "websocket__public__ticker__2": "tickers are not read",
    "websocket__system__system-status__1": "maintenance is met as what it does to connections and answers",
    "websocket__system__system-status__2": "maintenance is met as what it does to connections and answers",
    "websocket__trade__guideline__4": "what is sent is held against pybit's and ccxt's requests, not against pages",
    "websocket__wss-authentication__10": "the answer to a subscription of options, which has no `op`",
}
"""Examples that nothing of the adapter would read or send."""

NOT_SHOWN = {"LotSizeFilter.min_notional_value": "no example is of a linear contract, which alone has it"}
"""Declared fields that no example has."""


def fine(symbol: str, base: str, quote: str, category: Any = "linear") -> Instrument:
    """An instrument whose grid takes any example's numbers."""
    return Instrument(symbol, category, base, quote, FINE, FINE, FINE, Decimal(10**9), FINE)


OURS = ("subscribe", "unsubscribe", "ping", "auth")
"""Operations that a client sends; an answer to one says how it went."""


# ---- answers by REST ------------------------------------------------------------------------------------------------


def check_order(read: VenueOrder, source: dict[str, Any]) -> None:
    assert (read.symbol, read.client_order_id, read.venue_order_id) == (
        source["symbol"], source["orderLinkId"], source["orderId"],
    )  # fmt: skip
    assert read.side is {"Buy": Side.BUY, "Sell": Side.SELL}[source["side"]]
    assert read.price_ticks * FINE == Decimal(source["price"])
    assert (read.qty_lots * FINE, read.filled_lots * FINE) == (Decimal(source["qty"]), Decimal(source["cumExecQty"]))
    refused = source["rejectReason"] == "EC_PostOnlyWillTakeLiquidity"
    status = {"New": OrderStatus.WORKING, "Filled": OrderStatus.FILLED, "Cancelled": OrderStatus.REJECTED}
    assert (read.post_only_refused, read.status) == (refused, status[source["orderStatus"]])


def orders(page: list[wire.OrderRow], source: list[dict[str, Any]]) -> None:
    for row, told in zip(page, source, strict=True):
        check_order(decode.venue_order(row, fine(row.symbol, "", "USDT")), told)


def executions(page: list[wire.ExecutionRow], source: list[dict[str, Any]]) -> None:
    for row, told in zip(page, source, strict=True):
        base = told["symbol"][:3]
        fill = decode.execution(row, fine(row.symbol, base, told["feeCurrency"] or "USDT"), 1)
        assert isinstance(fill, Filled)
        assert (fill.execution_id, fill.client_order_id, fill.venue_order_id, fill.symbol) == (
            told["execId"], told["orderLinkId"], told["orderId"], told["symbol"],
        )  # fmt: skip
        assert fill.side is {"Buy": Side.BUY, "Sell": Side.SELL}[told["side"]]
        assert (fill.price, fill.qty_lots * FINE) == (Decimal(told["execPrice"]), Decimal(told["execQty"]))
        extra = sum((Decimal(one["fee"]) for one in told["extraFees"] or ()), Decimal(0))
        assert fill.fee_quote == Decimal(told["execFee"]) + extra
        assert (fill.is_maker, fill.venue_at_ns) == (told["isMaker"], int(told["execTime"]) * 1_000_000)


def wallets(rows: list[wire.WalletRow], source: list[dict[str, Any]]) -> None:
    listed = wire.WalletList(rows)
    (account,), (coin,) = source, source[0]["coin"]
    linear = decode.wallet(listed, coin["coin"], "linear")
    assert (linear.equity_quote, linear.margin_used_quote) == (
        Decimal(coin["equity"]), Decimal(account["totalInitialMargin"]),
    )  # fmt: skip
    assert linear.transfers_quote == Decimal(coin["walletBalance"]) - Decimal(coin["cumRealisedPnl"])
    assert decode.wallet(listed, coin["coin"], "spot").equity_quote == Decimal(account["totalEquity"])
    assert decode.coin_balance(listed, coin["coin"]) == Decimal(coin["walletBalance"])
    assert decode.coin_equity_quote(listed, coin["coin"]) == Decimal(coin["equity"])


def instruments(page: wire.InstrumentPage, source: dict[str, Any]) -> None:
    """Spot and linear rows; those of options are read as far as `wire` goes: they have no least notional."""
    for row, told in zip(page.rows, source["list"], strict=True):
        if source["category"] == "option":
            with pytest.raises(VenueGarbled, match="minNotionalValue"):
                decode.listed_instrument(page, row.symbol, "linear")
            continue
        read = decode.listed_instrument(page, row.symbol, source["category"])
        lot = told["lotSizeFilter"]
        assert (read.base, read.quote) == (told["baseCoin"], told["quoteCoin"])
        assert (read.tick_size, read.lot_size) == (
            Decimal(told["priceFilter"]["tickSize"]), Decimal(lot["basePrecision"]),
        )  # fmt: skip
        assert (read.qty_min, read.qty_max) == (Decimal(lot["minOrderQty"]), Decimal(lot["maxOrderQty"]))
        assert read.notional_min_quote == Decimal(lot["minOrderAmt"])


def positions(page: wire.PositionPage, source: dict[str, Any]) -> None:
    for told in source["list"]:
        read = decode.position(page.rows, told["symbol"])
        sign = {"Buy": 1, "Sell": -1}[told["side"]]
        assert (read.qty, read.entry_price) == (sign * Decimal(told["size"]), Decimal(told["avgPrice"]))


def fee_rates(page: wire.FeeRatePage, source: dict[str, Any]) -> None:
    for told in source["list"]:
        rates = decode.fee_rates(page, told["symbol"])
        assert (rates.maker_bps, rates.taker_bps) == (
            Decimal(told["makerFeeRate"]) * 10_000, Decimal(told["takerFeeRate"]) * 10_000,
        )  # fmt: skip


def top(rows: wire.BookRows, source: dict[str, Any]) -> None:
    read = decode.top_of_book(rows)
    assert (read.bid, read.ask) == (Decimal(source["b"][0][0]), Decimal(source["a"][0][0]))
    assert (read.symbol, read.at_ms) == (source["s"], source["cts"])


def server_time(read: wire.ServerTime, source: dict[str, Any]) -> None:
    assert str(decode.whole(read.time_nano, "timeNano")) == source["timeNano"]


def nothing(_read: object, _source: object) -> None:
    """What is read of these is used as it stands on the wire."""


REST: dict[str, tuple[Any, Callable[[Any, Any], None]]] = {
    "account__account-info": (wire.AccountInformation, nothing),
    "account__fee-rate": (wire.FeeRatePage, fee_rates),
    "account__wallet-balance": (wire.WalletList, lambda read, source: wallets(read.rows, source["list"])),
    "market__instrument": (wire.InstrumentPage, instruments),
    "market__orderbook": (wire.BookRows, top),
    "market__time": (wire.ServerTime, server_time),
    "order__amend-order": (wire.OrderAck, nothing),
    "order__batch-amend": (wire.BatchAck, nothing),
    "order__batch-cancel": (wire.BatchAck, nothing),
    "order__batch-place": (wire.BatchAck, nothing),
    "order__cancel-all": (wire.CancelAllAck, nothing),
    "order__cancel-order": (wire.OrderAck, nothing),
    "order__create-order": (wire.OrderAck, nothing),
    "order__dcp": (None, nothing),
    "order__execution": (wire.ExecutionPage, lambda read, source: executions(read.rows, source["list"])),
    "order__open-order": (wire.OrderPage, lambda read, source: orders(read.rows, source["list"])),
    "order__order-list": (wire.OrderPage, lambda read, source: orders(read.rows, source["list"])),
    "position__position": (wire.PositionPage, positions),
    "user__apikey-info": (wire.KeyInformation, nothing),
}
RAW: dict[type, type] = {wire.OrderPage: wire.OrderPageRaw, wire.PositionPage: wire.PositionPageRaw}


def by_rest(raw: bytes, source: dict[str, Any], name: str, compared: Compared) -> None:
    kind, check = REST[name.rpartition("__")[0]]
    envelope = wire.envelope(200, raw, name)
    compared.same(envelope, source, name)
    if kind is None:
        return
    read = wire.decode(kind, envelope.result, name)
    compared.same(read, source["result"], f"{name}.result")
    check(read, source["result"])
    if kind in RAW:  # read row by row, too
        raw_rows = wire.decode(RAW[kind], envelope.result, name)
        compared.same(raw_rows, source["result"], f"{name}.result")
    if kind is wire.OrderAck:
        assert wire.acknowledged(200, raw) == source["result"]["orderId"]
    if kind is wire.BatchAck:
        ends = wire.decode(wire.BatchEnds, envelope.ret_ext_info, name)
        compared.same(ends, source["retExtInfo"], f"{name}.retExtInfo")


# ---- what streams say -----------------------------------------------------------------------------------------------


def books(push: wire.Push, source: dict[str, Any], compared: Compared) -> None:
    """Both ways in: in one pass, and in two."""
    rows = wire.decode(wire.BookRows, push.data, "book")
    whole = wire.book_push(json.dumps(source, separators=(",", ":")))
    assert whole is not None
    compared.same(rows, source["data"], "book")
    compared.same(whole, source, "book")
    told = source["data"]
    grid = Grid(fine(told["s"], "BTC", "USDT"))
    for event in (decode.book_event(push, rows, grid, 1), decode.book_event(whole, whole.data, grid, 1)):
        assert isinstance(event, BookSnapshot if source["type"] == "snapshot" else BookDelta)
        assert (event.symbol, event.update_id, event.venue_at_ns) == (told["s"], told["u"], source["cts"] * 1_000_000)
        for read, side in ((event.bids, told["b"]), (event.asks, told["a"])):
            assert [(ticks * FINE, lots * FINE) for ticks, lots in read] == [
                (Decimal(price), Decimal(size)) for price, size in side
            ]


def trades(rows: list[wire.TradeRow], source: list[dict[str, Any]]) -> None:
    events = [decode.trade_event(row, Grid(fine(row.s, "BTC", "USDT")), 1) for row in rows]
    assert [(one.symbol, one.price_ticks * FINE, one.qty_lots * FINE, one.venue_at_ns) for one in events] == [
        (told["s"], Decimal(told["p"]), Decimal(told["v"]), told["T"] * 1_000_000) for told in source
    ]
    assert [one.taker_side for one in events] == [{"Buy": Side.BUY, "Sell": Side.SELL}[told["S"]] for told in source]


def hedged(rows: list[wire.PositionRow], source: list[dict[str, Any]]) -> None:
    """The example is of an account in hedge mode, which is refused."""
    with pytest.raises(VenueGarbled, match="hedge mode"):
        decode.position(rows, source[0]["symbol"])


TOPICS: dict[str, tuple[Any, Callable[[Any, Any], None]]] = {
    "order": (wire.OrderRow, orders),
    "execution": (wire.ExecutionRow, executions),
    "position": (wire.PositionRow, hedged),
    "wallet": (wire.WalletRow, wallets),
    "publicTrade": (wire.TradeRow, trades),
}


ONE_PASS: dict[type[msgspec.Struct], type[msgspec.Struct]] = {
    wire.OrderPush: wire.Push,
    wire.ExecutionPush: wire.Push,
    wire.TradePush: wire.Push,
    wire._AckEnvelope: wire.Envelope,
}
"""What is read in one pass, and where each of its fields is declared that is read in two. `Operation` is sent alone."""
WHOLE: dict[str, Callable[[str], wire.OrderPush | wire.ExecutionPush | wire.TradePush | None]] = {
    "order": wire.account_push,
    "execution": wire.account_push,
    "publicTrade": wire.trade_push,
}


def by_stream(raw: bytes, source: dict[str, Any], name: str, compared: Compared) -> None:
    push = push_of(raw, name)
    compared.same(push, source, name)
    topic = push.topic.partition(".")[0]
    if topic == "orderbook":
        books(push, source, compared)
    elif topic:
        kind, check = TOPICS[topic]
        rows = wire.decode_rows(kind, push.data, name)
        compared.same(rows, source["data"], f"{name}.data")
        check(rows, source["data"])
        if topic in WHOLE:  # in one pass, too
            whole = WHOLE[topic](json.dumps(source, separators=(",", ":")))
            assert whole is not None, name
            compared.same(whole, source, name)
            check(whole.data, source["data"])


def by_trade_socket(raw: bytes, source: dict[str, Any], name: str, compared: Compared) -> None:
    answer = wire.decode(wire.TradeAnswer, raw, name)
    compared.same(answer, source, name)
    if answer.op == "order.create":
        compared.same(wire.decode(wire.OrderAck, answer.data, name), source["data"], f"{name}.data")
    elif answer.op == "order.create-batch":
        compared.same(wire.decode(wire.BatchAck, answer.data, name), source["data"], f"{name}.data")
        ends = wire.decode(wire.BatchEnds, answer.ret_ext_info, name)
        compared.same(ends, source["retExtInfo"], f"{name}.retExtInfo")
        compared.same(wire.decode(wire.RawList, answer.data, name), source["data"], f"{name}.data")  # row by row, too


def ours(source: dict[str, Any]) -> None:
    """What a page shows as sent is what would be sent."""
    if source["op"] == "ping":
        assert json.loads(PING) == source
    elif source["op"] == "auth":
        key, expires_ms, _signature = source["args"]
        sent = json.loads(socket_auth(key, "secret", expires_ms))
        assert (sent["op"], sent["args"][:2], len(sent["args"][2])) == ("auth", [key, expires_ms], 64)
    else:
        sent = json.loads(operation(source["op"], source["args"]))
        assert (sent["op"], sent["args"]) == (source["op"], source["args"])


# ---- all of them ----------------------------------------------------------------------------------------------------


def read_all(folder: Path) -> tuple[Compared, set[str]]:
    """Everything that is compared, and the names of the examples that were read or are sent."""
    compared, names = Compared(), set()
    for path in sorted(folder.glob("*.json")):
        name, raw = path.stem, path.read_bytes()
        if name in NOT_READ:
            continue
        source = json.loads(raw)
        if source.get("op") in OURS and not {"success", "retCode"} & set(source):
            ours(source)
        elif name.startswith("websocket__trade"):
            by_trade_socket(raw, source, name, compared)
        elif name.startswith("websocket"):
            by_stream(raw, source, name, compared)
        else:
            by_rest(raw, source, name, compared)
        names.add(name)
    return compared, names


@BESIDE
def test_every_documented_example_is_read_as_it_stands_or_named_with_the_reason_why_not() -> None:
    compared, names = read_all(EXAMPLES)
    found = {path.stem for path in EXAMPLES.glob("*.json")}
    assert names | set(NOT_READ) == found
    assert not names & set(NOT_READ)
    assert compared.values > 250
    elsewhere = set(ONE_PASS)
    assert kinds_of(wire) - compared.seen - elsewhere == set(), "a kind of message of which there is no example"


@BESIDE
def test_a_documented_success_on_the_trade_socket_is_read_by_its_shape_the_next_time() -> None:
    one = json.loads((EXAMPLES / "websocket__trade__guideline__3.json").read_bytes())
    batch = json.loads((EXAMPLES / "websocket__trade__guideline__5.json").read_bytes())
    ends = [{"code": 0, "msg": "OK"} for _ in batch["data"]["list"]]
    several = {"reqId": "test-006", **batch, "retExtInfo": {"list": ends}}
    reader = AnswerText()
    for source, orders in ((one, 1), (several, len(ends))):
        text = json.dumps(source, separators=(",", ":"))
        assert reader.read(text) is None
        reader.learn(text, wire.decode(wire.TradeAnswer, text, "trade"), orders)
        found = reader.read(text.replace("test-00", "test-10"))
        assert found is not None
        header = source["header"]
        assert (found.number, found.answers(orders)) == (source["reqId"].replace("0", "1", 1), True)
        assert [str(found.limit), str(found.left)] == [header["X-Bapi-Limit"], header["X-Bapi-Limit-Status"]]
        assert str(found.resets_ms) == header["X-Bapi-Limit-Reset-Timestamp"]
        rows = source["data"]["list"] if orders > 1 else [source["data"]]
        assert found.link_ids == [row["orderLinkId"] for row in rows]
        assert found.order_ids == [row["orderId"] for row in rows]


@BESIDE
def test_every_declared_field_stands_in_an_example_or_is_named_with_the_reason_why_not() -> None:
    compared, _ = read_all(EXAMPLES)
    elsewhere = {kind.__name__ for kind in ONE_PASS}
    assert {name for name in compared.absent(wire) if name.partition(".")[0] not in elsewhere} == set(NOT_SHOWN)


def test_what_is_read_in_one_pass_has_the_names_of_what_is_read_in_two() -> None:
    for whole, parts in ONE_PASS.items():
        names = {field.encode_name for field in msgspec.structs.fields(whole)}
        assert names <= {field.encode_name for field in msgspec.structs.fields(parts)}, whole.__name__


def test_a_misspelt_field_with_a_default_is_told_and_so_is_one_that_is_read_wrong() -> None:
    row = msgspec.defstruct("Row", [("price", str), ("fee", str, ""), ("fees", str, "")], module="declared")
    declared = ModuleType("declared")
    declared.Row = row  # type: ignore[attr-defined]
    compared = Compared()
    compared.same([row("1.5", "0.1")], [{"price": "1.5", "fee": "0.1"}], "rows")
    assert (compared.values, compared.absent(declared), compared.seen) == (2, {"Row.fees"}, kinds_of(declared))
    with pytest.raises(AssertionError, match=r"rows\[0\].fee: read '', there stands '0.1'"):
        compared.same([row("1.5")], [{"price": "1.5", "fee": "0.1"}], "rows")
    with pytest.raises(AssertionError, match="rows: read 1 of 2"):
        compared.same([row("1.5")], [{"price": "1.5"}] * 2, "rows")
