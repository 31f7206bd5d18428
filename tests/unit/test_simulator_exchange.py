"""Several symbols and both categories in one exchange: one wallet, one client id, a position for each symbol."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from bot.domain.order import Side
from bot.simulator import bybit_orders as orders
from bot.simulator import bybit_queries as queries
from bot.simulator.accounts import Fees, Holder
from bot.simulator.bybit_access import V5Error
from bot.simulator.exchange import Exchange
from bot.simulator.faults import FaultRefused
from bot.simulator.listings import LISTINGS, exchange_of, generated
from bot.simulator.market import LevelsMove, PassingOrder
from bot.simulator.matching import Book
from bot.simulator.venue import Venue

D = Decimal
NOW_NS = 1_700_000_000_000_000_000


class Desk:
    """An exchange of all listed instruments with one holder, and short words for what a test does."""

    def __init__(self, equity: str = "100000", spot_maker: str = "0.001") -> None:
        instruments = [listed.instrument for listed in LISTINGS.values()]
        self.exchange: Exchange = exchange_of(instruments, generated, seed=3, now_ns=NOW_NS)
        for venue in self.exchange.of_category("spot"):
            venue._trading.fees = Fees(D(spot_maker), D("0.001"))
        self.holder: Holder = self.exchange.open_account("key", "secret", D(equity), NOW_NS)

    def venue(self, symbol: str, category: str = "linear") -> Venue:
        found = self.exchange.venue(category, symbol)
        assert found is not None
        return found

    def create(self, symbol: str, side: str, qty: str, price: str = "", category: str = "linear", **more: Any) -> str:
        """The venue's id of a limit order; without a price of a market order."""
        kind = {"orderType": "Limit", "price": price} if price else {"orderType": "Market"}
        params = {"category": category, "symbol": symbol, "side": side, "qty": qty, **kind, **more}
        return str(orders.create(self.exchange, self.holder, params, NOW_NS)["orderId"])

    def code(self, *args: str, **more: Any) -> int:
        with pytest.raises(V5Error) as caught:
            self.create(*args, **more)
        return caught.value.code

    def cancel_code(self, symbol: str, category: str, order_id: str) -> int:
        params = {"category": category, "symbol": symbol, "orderId": order_id}
        with pytest.raises(V5Error) as caught:
            orders.cancel(self.exchange, self.holder, params, NOW_NS)
        return caught.value.code

    def asked(self, query: Any, **params: Any) -> list[dict[str, Any]]:
        return list(as_sent(query(self.exchange, self.holder, params, NOW_NS))["list"])


def as_sent(result: object) -> Any:
    """What a client reads: rows may be written as text already."""
    return msgspec.json.decode(msgspec.json.encode(result))


def test_positions_are_by_symbol_and_their_profit_is_in_one_wallet() -> None:
    desk = Desk()
    desk.create("BTCUSDT", "Buy", "0.01")
    desk.create("ETHUSDT", "Sell", "0.5")
    rows = {row["symbol"]: row for row in desk.asked(queries.positions, category="linear", settleCoin="USDT")}
    assert {symbol: (row["side"], row["size"]) for symbol, row in rows.items()} == {
        "BTCUSDT": ("Buy", "0.010"), "ETHUSDT": ("Sell", "0.50"),
    }  # fmt: skip
    (wallet,) = desk.asked(queries.wallet_balance, accountType="UNIFIED", coin="USDT")
    unrealised = sum(D(row["unrealisedPnl"]) for row in rows.values())
    (coin,) = wallet["coin"]
    assert D(coin["equity"]) == D(coin["walletBalance"]) + unrealised
    paid = sum(D(row["execFee"]) for row in desk.asked(queries.executions, category="linear"))
    assert D(coin["walletBalance"]) == 100_000 - paid
    for _, account in desk.exchange.accounts(desk.holder, "linear"):
        assert account.equity_quote(account.market.mark_half_ticks) == desk.holder.equity_quote()


def test_the_margin_of_one_symbol_is_not_there_for_another() -> None:
    desk = Desk(equity="1000")
    desk.create("BTCUSDT", "Buy", "0.1", "59000")
    assert desk.code("ETHUSDT", "Buy", "2", "2900") == 110007
    desk.create("ETHUSDT", "Buy", "1", "2900")


def test_a_client_order_id_is_one_over_all_symbols_and_categories() -> None:
    desk = Desk()
    desk.create("BTCUSDT", "Buy", "0.01", "50000", orderLinkId="one-1")
    assert desk.code("ETHUSDT", "Buy", "0.01", "2500", orderLinkId="one-1") == 110072
    assert desk.code("ETHUSDT", "Buy", "0.01", "2500", "spot", orderLinkId="one-1") == 170141


def test_what_concerns_all_symbols_is_told_of_all_and_in_pages_without_a_gap() -> None:
    desk = Desk()
    made = [
        desk.create(symbol, "Buy", qty, price, orderLinkId=f"{symbol}-{number}")
        for number in range(3)
        for symbol, qty, price in (("BTCUSDT", "0.01", "50000"), ("ETHUSDT", "0.01", "2500"), ("SOLUSDT", "0.1", "120"))
    ]
    seen: list[str] = []
    cursor = ""
    while True:
        params = {"category": "linear", "settleCoin": "USDT", "limit": "2", "cursor": cursor}
        page = as_sent(queries.open_orders(desk.exchange, desk.holder, params, NOW_NS))
        seen += [row["orderId"] for row in page["list"]]
        cursor = str(page["nextPageCursor"])
        if not cursor:
            break
    assert sorted(seen) == sorted(made)
    assert len(desk.asked(queries.open_orders, category="linear", symbol="ETHUSDT")) == 3
    gone = orders.cancel_all(desk.exchange, desk.holder, {"category": "linear", "baseCoin": "ETH"}, NOW_NS)
    assert len(gone["list"]) == 3  # type: ignore[arg-type]
    gone = orders.cancel_all(desk.exchange, desk.holder, {"category": "linear", "settleCoin": "USDT"}, NOW_NS)
    assert len(gone["list"]) == 6  # type: ignore[arg-type]


def test_a_spot_purchase_changes_coins_and_its_fee_comes_out_of_what_is_bought() -> None:
    desk = Desk()
    before = dict(desk.holder.coins)
    desk.create("ETHUSDT", "Buy", "1", "3300", "spot", timeInForce="IOC")
    rows = desk.asked(queries.executions, category="spot", symbol="ETHUSDT")
    assert {row["feeCurrency"] for row in rows} == {"ETH"}
    assert all(D(row["execFee"]) == D(row["execQty"]) * D("0.001") for row in rows)
    value, fee = sum(D(row["execValue"]) for row in rows), sum(D(row["execFee"]) for row in rows)
    assert desk.holder.coins["USDT"] == before["USDT"] - value
    assert desk.holder.coins["ETH"] == before["ETH"] + 1 - fee
    (order,) = desk.asked(queries.order_history, category="spot")
    assert {coin: D(paid) for coin, paid in order["cumFeeDetail"].items()} == {"ETH": fee}
    assert desk.asked(queries.positions, category="spot", symbol="ETHUSDT") == []


@pytest.mark.parametrize(("maker", "side", "coin"), [
    ("0.001", Side.SELL, "USDT"), ("0.001", Side.BUY, "ETH"),
    ("-0.0001", Side.SELL, "ETH"), ("-0.0001", Side.BUY, "USDT"),
])  # fmt: skip
def test_a_maker_s_fee_is_of_what_it_gets_and_its_rebate_of_the_other(maker: str, side: Side, coin: str) -> None:
    desk = Desk(spot_maker=maker)
    venue = desk.venue("ETHUSDT", "spot")
    best = venue.book.best(side)
    assert best is not None
    desk.create("ETHUSDT", side.value.title(), "0.1", str(venue.instrument.price(best)), "spot", timeInForce="PostOnly")
    now_ns = NOW_NS
    while not (rows := desk.asked(queries.executions, category="spot")):
        now_ns = venue.next_at_ns()
        venue.advance(now_ns)
        assert now_ns < NOW_NS + 600 * 10**9, "never filled"
    assert {(row["feeCurrency"], row["isMaker"]) for row in rows} == {(coin, True)}
    assert all((D(row["execFee"]) < 0) is (D(maker) < 0) for row in rows)


def test_spot_refuses_with_its_own_codes() -> None:
    desk = Desk()
    spot = {"category": "spot"}
    best_ask = desk.venue("ETHUSDT", "spot").book.best(Side.SELL)
    assert best_ask is not None
    crossing = str(desk.venue("ETHUSDT", "spot").instrument.price(best_ask + 1))
    assert desk.code("ETHUSDT", "Buy", "1", crossing, timeInForce="PostOnly", **spot) == 170218
    assert desk.code("ETHUSDT", "Buy", "1000", "3000", **spot) == 170131
    assert desk.code("ETHUSDT", "Sell", "1000", "3000", **spot) == 170131
    assert desk.code("ETHUSDT", "Buy", "1", "9000", **spot) == 170132
    assert desk.code("ETHUSDT", "Sell", "1", "900", **spot) == 170133
    assert desk.code("ETHUSDT", "Buy", "1", "2500.001", **spot) == 170134
    assert desk.code("ETHUSDT", "Buy", "1501", "2500", **spot) == 170135
    assert desk.code("ETHUSDT", "Buy", "0.0001", "2500", **spot) == 170137
    assert desk.code("ETHUSDT", "Buy", "0.001", "2500", **spot) == 170140
    resting = desk.create("ETHUSDT", "Buy", "1", "2500", **spot)
    named = {"symbol": "ETHUSDT", "orderId": resting, **spot}
    orders.cancel(desk.exchange, desk.holder, named, NOW_NS)
    filled = desk.create("ETHUSDT", "Buy", "0.1", crossing, **spot)
    assert desk.cancel_code("ETHUSDT", "spot", resting) == 170142
    assert desk.cancel_code("ETHUSDT", "spot", filled) == 170139
    assert desk.cancel_code("ETHUSDT", "spot", "no-such-order") == 170213


def test_what_an_open_spot_order_will_spend_is_locked() -> None:
    desk = Desk(equity="10000")
    desk.create("BTCUSDT", "Buy", "0.15", "59000", "spot")
    assert desk.holder.locked("USDT") == D("8850")
    assert desk.code("BTCUSDT", "Buy", "0.1", "59000", "spot") == 170131
    assert desk.code("BTCUSDT", "Buy", "0.3", "59000") == 110007
    desk.create("BTCUSDT", "Buy", "0.01", "59000")


def test_a_fault_happens_at_the_symbol_that_it_names() -> None:
    desk = Desk()
    names = {"symbol": "ETHUSDT", "lots": "7"}
    desk.exchange.arm("position_altered", "sim-1", names, NOW_NS)
    held = {v.instrument.symbol: a.position.lots for v, a in desk.exchange.accounts(desk.holder, "linear")}
    assert held == {"BTCUSDT": 0, "ETHUSDT": 7, "SOLUSDT": 0}
    with pytest.raises(FaultRefused, match="symbol: 'DOGEUSDT' is not one of BTCUSDT, ETHUSDT, SOLUSDT"):
        desk.exchange.arm("foreign_order", "sim-1", {"symbol": "DOGEUSDT"}, NOW_NS)
    desk.exchange.arm("foreign_order", "sim-1", {"symbol": "SOLUSDT", "qty_lots": "5"}, NOW_NS)
    (row,) = desk.asked(queries.open_orders, category="linear", settleCoin="USDT")
    assert (row["symbol"], row["orderLinkId"]) == ("SOLUSDT", "")


def test_a_fill_may_be_settled_at_a_price_it_was_not_made_at_once() -> None:
    desk = Desk()
    touch = desk.venue("ETHUSDT").book.best(Side.SELL)
    assert touch is not None
    desk.exchange.arm("wrong_fill_price", "sim-1", {"symbol": "ETHUSDT", "ticks": "250"}, NOW_NS)
    desk.create("BTCUSDT", "Buy", "0.001")
    desk.create("ETHUSDT", "Buy", "0.01")
    first = desk.asked(queries.executions, category="linear", symbol="ETHUSDT")[-1]
    assert D(first["execPrice"]) == D("0.01") * (touch + 250)
    assert [fault.fired_at_ns for fault in desk.exchange.faults.of_kind("wrong_fill_price")] == [NOW_NS]


def test_an_account_can_become_insolvent() -> None:
    desk = Desk()
    desk.create("ETHUSDT", "Buy", "1")
    desk.exchange.arm("insolvent", "sim-1", {"equity_quote": "12.5"}, NOW_NS)
    assert desk.holder.equity_quote() == D("12.5")
    assert desk.code("BTCUSDT", "Buy", "0.01", "59000") == 110007


def test_venues_with_plans_of_their_own_are_no_exchange() -> None:
    instrument = msgspec.structs.replace(LISTINGS["linear", "ETHUSDT"].instrument)
    venues = [Venue(instrument, generated(instrument, 1), seed=1, now_ns=NOW_NS) for _ in range(2)]
    with pytest.raises(ValueError, match="one plan of faults"):
        Exchange(venues)


def test_a_generated_market_moves_as_often_as_it_is_told_and_from_its_own_price() -> None:
    instrument = LISTINGS["linear", "ETHUSDT"].instrument
    often, seldom = (generated(instrument, 1, step_ms * 1_000_000) for step_ms in (100, 1_000))
    for market, step_ns in ((often, 100_000_000), (seldom, 1_000_000_000)):
        assert max(market.start(NOW_NS).bids) < LISTINGS["linear", "ETHUSDT"].start_ticks
        market.step()
        assert market.next_at_ns() == NOW_NS + 2 * step_ns


def _trades_of(step_ms: int) -> int:
    """Of ten minutes of the generated market."""
    market, book, trades = generated(LISTINGS["linear", "BTCUSDT"].instrument, 3, step_ms * 1_000_000), Book(), 0
    market.start(NOW_NS)
    for _ in range(600_000 // step_ms):
        for action in market.step():
            trades += isinstance(action, PassingOrder)
            if isinstance(action, LevelsMove):
                action.tell(book.bids, book.asks)
    return trades


def test_a_market_that_moves_half_as_often_trades_about_as_much() -> None:
    often, seldom = _trades_of(100), _trades_of(200)
    assert 0.75 * often < seldom < often
