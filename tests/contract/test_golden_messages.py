"""The decoder against golden messages: Bybit V5's shapes with values of our own, one file each.

Whatever speaks this dialect (decoder here, simulated venue elsewhere) is held against the same files.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from bot.domain.events import BookDelta, BookSnapshot, Filled, OrderStatus, TradePrinted
from bot.domain.order import Side
from bot.venues.bybit import decode, wire
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.sockets import StreamRefused, push_of
from bot.venues.port import Position, VenueGarbled

GOLDEN = Path(__file__).parent / "golden"
ORDER_ID = "7a1c0f3e-52b1-4a53-9d6e-0c1f5b0a9e01"
AT_NS = 7


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


def result(name: str, kind: type) -> object:
    return wire.decode(kind, wire.envelope(200, golden(name), name).result, name)


def instrument():
    return decode.instrument(result("rest_instrument_linear", wire.InstrumentPage).rows[0], "linear")


def push(name: str) -> wire.Push:
    return push_of(golden(name), name)


def book(name: str):
    message = push(name)
    rows = wire.decode(wire.BookRows, message.data, name)
    return decode.book_event(message, rows, Grid(instrument()), AT_NS)


def streamed_order(name: str):
    (row,) = wire.decode_rows(wire.OrderRow, push(name).data, name)
    return decode.venue_order(row, instrument())


def streamed_fill(name: str) -> Filled | None:
    (row,) = wire.decode_rows(wire.ExecutionRow, push(name).data, name)
    return decode.fill(row, instrument(), AT_NS)


def test_linear_filters_come_from_qty_step_and_min_notional_value():
    found = instrument()
    assert (found.symbol, found.base, found.quote, found.category) == ("BTCUSDT", "BTC", "USDT", "linear")
    assert (found.tick_size, found.lot_size) == (Decimal("0.10"), Decimal("0.001"))
    assert (found.qty_min, found.qty_max, found.notional_min_quote) == (Decimal("0.001"), Decimal(1190), Decimal(5))


def test_spot_filters_come_from_base_precision_and_min_order_amount():
    found = decode.instrument(result("rest_instrument_spot", wire.InstrumentPage).rows[0], "spot")
    assert (found.tick_size, found.lot_size) == (Decimal("0.01"), Decimal("0.00001"))
    assert found.notional_min_quote == Decimal(5)


def test_linear_filters_without_their_step_are_garbled_not_guessed():
    with pytest.raises(VenueGarbled, match="qtyStep"):
        decode.instrument(result("rest_instrument_spot", wire.InstrumentPage).rows[0], "linear")


def test_server_time_is_read_in_nanoseconds():
    assert result("rest_time", wire.ServerTime).time_nano == "1764590400249876543"


def test_top_of_book_is_the_best_of_each_side_at_the_engines_time():
    top = decode.top_of_book(result("rest_orderbook", wire.BookRows))
    assert (top.bid, top.ask, top.at_ms) == (Decimal("91240.0"), Decimal("91240.1"), 1764590400233)


def test_create_is_acknowledged_with_the_venues_id():
    assert result("rest_create", wire.OrderAck).order_id == ORDER_ID


@pytest.mark.parametrize(("name", "code"), [("rest_create_refused", 110007), ("rest_cancel_gone", 110001)])
def test_refusals_carry_their_code(name, code):
    assert wire.envelope(200, golden(name), name).ret_code == code


def test_cancel_all_lists_what_it_cancelled():
    assert len(result("rest_cancel_all", wire.CancelAllAck).rows) == 2


def test_open_orders_are_exact_in_ticks_and_lots_and_keep_foreign_ones():
    page = result("rest_open_orders", wire.OrderPage)
    own, foreign = (decode.venue_order(row, instrument()) for row in page.rows)
    assert (own.client_order_id, own.side, own.price_ticks, own.qty_lots, own.filled_lots) == (
        *("slwq-3-17", Side.BUY, 912345, 12),
        4,
    )
    assert own.status is OrderStatus.WORKING
    assert (foreign.client_order_id, foreign.venue_order_id, foreign.side) == ("", "o-hand", Side.SELL)
    assert page.next_page_cursor == "page_args%3Do-hand%26symbol%3D6%26"


def test_a_post_only_refusal_is_known_by_its_reason_under_either_status():
    (row,) = result("rest_order_history_post_only_refused", wire.OrderPage).rows
    assert row.order_status == "Cancelled"
    for order in (decode.venue_order(row, instrument()), streamed_order("stream_order_post_only_refused")):
        assert order.post_only_refused
        assert order.status is OrderStatus.REJECTED


def test_executions_leave_funding_out_and_keep_the_sign_of_the_fee():
    rows = result("rest_executions", wire.ExecutionPage).rows
    trade, funding = (decode.fill(row, instrument(), AT_NS) for row in rows)
    assert trade is not None
    assert trade.fee_quote == Decimal("-0.04378")
    assert funding is None


def test_positions_are_signed_and_flat_is_a_row_with_size_nought():
    short = decode.position(result("rest_position_short", wire.PositionPage).rows, "BTCUSDT")
    flat = decode.position(result("rest_position_flat", wire.PositionPage).rows, "BTCUSDT")
    assert short == Position("BTCUSDT", Decimal("-0.250"), Decimal("91300.4"))
    assert flat == Position("BTCUSDT", Decimal(0), Decimal(0))


def test_wallet_equity_is_that_of_the_quote_coin():
    wallet = result("rest_wallet", wire.WalletList)
    assert decode.coin_equity_quote(wallet, "USDT") == Decimal("99880.11")
    with pytest.raises(VenueGarbled, match="no row for USDC"):
        decode.coin_equity_quote(wallet, "USDC")


def test_key_information_says_what_the_key_may_do():
    key = result("rest_key_information", wire.KeyInformation)
    assert (key.read_only, key.ips, key.expired_at) == (0, ["203.0.113.7"], "2026-02-01T00:00:00Z")
    assert key.permissions["ContractTrade"] == ["Order", "Position"]
    assert key.permissions["Wallet"] == []


def test_a_snapshot_replaces_the_book_best_first():
    assert book("stream_book_snapshot") == BookSnapshot(
        AT_NS,
        "BTCUSDT",
        bids=((912400, 1207), (912398, 500)),
        asks=((912401, 430), (912406, 2000)),
        update_id=40127,
        venue_at_ns=1764590400233_000_000,
    )


def test_a_delta_keeps_the_deletion_as_nought_lots():
    event = book("stream_book_delta")
    assert isinstance(event, BookDelta)
    assert event.bids == ((912398, 0),)
    assert event.asks == ((912401, 112), (912410, 3))
    assert event.update_id == 40128


def test_update_one_is_a_snapshot_whatever_it_calls_itself():
    assert isinstance(book("stream_book_restarted"), BookSnapshot)


def test_a_trade_carries_the_takers_side_and_the_venues_time():
    rows = wire.decode_rows(wire.TradeRow, push("stream_trade").data, "trade")
    assert [decode.trade_event(row, Grid(instrument()), AT_NS) for row in rows] == [
        TradePrinted(AT_NS, "BTCUSDT", 912400, 318, Side.SELL, 1764590400268_000_000)
    ]


def test_an_order_on_the_stream_is_read_like_one_by_rest():
    order = streamed_order("stream_order_new")
    assert (order.status, order.reason, order.post_only_refused) == (OrderStatus.WORKING, "", False)


def test_the_second_message_of_a_cancel_fill_race_is_filled_and_says_why():
    order = streamed_order("stream_order_filled_second_of_race")
    assert (order.status, order.filled_lots) == (OrderStatus.FILLED, 12)
    assert order.reason == "EC_OrigClOrdIDDoesNotExist"


def test_a_cancelled_order_may_carry_fills():
    order = streamed_order("stream_order_cancelled_with_fills")
    assert (order.status, order.filled_lots) == (OrderStatus.CANCELLED, 4)


def test_a_maker_rebate_is_a_negative_fee():
    event = streamed_fill("stream_execution_maker_rebate")
    assert event == Filled(
        AT_NS,
        execution_id="b7c5b1de-0e4a-5c0f-8d52-6f7e2a4c1d33",
        client_order_id="slwq-3-17",
        venue_order_id=ORDER_ID,
        symbol="BTCUSDT",
        side=Side.BUY,
        price=Decimal("91234.5"),
        qty_lots=4,
        fee_quote=Decimal("-0.04378"),
        is_maker=True,
        venue_at_ns=1764590401377_000_000,
    )


def test_taxes_are_paid_on_top_of_the_fee():
    event = streamed_fill("stream_execution_taker_with_tax")
    assert event is not None
    assert event.fee_quote == Decimal("0.2007159") + Decimal("0.0246333")
    assert not event.is_maker


def test_funding_on_the_stream_is_no_fill():
    assert streamed_fill("stream_execution_funding") is None


def test_an_execution_of_a_foreign_order_has_no_client_id():
    event = streamed_fill("stream_execution_foreign")
    assert event is not None
    assert event.client_order_id == ""


def test_a_position_on_the_stream_has_its_entry_under_another_name():
    rows = wire.decode_rows(wire.PositionRow, push("stream_position").data, "position")
    assert decode.position(rows, "BTCUSDT") == Position("BTCUSDT", Decimal("0.004"), Decimal("91234.5"))


def test_operations_that_failed_are_refusals_and_pongs_are_not():
    with pytest.raises(StreamRefused, match="auth: Params Error"):
        push("stream_auth_refused")
    for name in ("stream_auth", "stream_subscribed", "stream_pong_public", "stream_pong_private"):
        assert push(name).topic == ""
