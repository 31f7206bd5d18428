"""What the decoder's fuzz reads of each golden answer, and answers of which there is no golden message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from bot.domain.order import Side
from bot.simulator.listings import GENERATED
from bot.venues.bybit import calls, decode, wire
from bot.venues.bybit.calls import Call
from bot.venues.bybit.order_entry import OrderEntry
from bot.venues.bybit.rest import BybitRest
from bot.venues.port import Accepted, Outcome, Refused, Unknown, VenueGarbled
from bot.venues.transport import HttpAnswer

SYMBOL: Final = "BTCUSDT"
NOW_NS: Final = 1_764_590_400_000_000_000
MINUTE_NS: Final = 60_000_000_000
Read = Callable[[wire.Envelope], object]


def _executions(e: wire.Envelope) -> object:
    rows = wire.decode(wire.ExecutionPage, e.result, "executions").rows
    return [decode.execution(row, GENERATED, NOW_NS) for row in rows]


def _orders(e: wire.Envelope) -> object:
    return [decode.venue_order(row, GENERATED) for row in wire.decode(wire.OrderPage, e.result, "orders").rows]


def _position(e: wire.Envelope) -> object:
    return decode.position(wire.decode(wire.PositionPage, e.result, "position").rows, SYMBOL)


def _wallet(e: wire.Envelope) -> wire.WalletList:
    return wire.decode(wire.WalletList, e.result, "wallet")


def _instrument(e: wire.Envelope, category: Any) -> object:
    return decode.listed_instrument(wire.decode(wire.InstrumentPage, e.result, "instruments"), SYMBOL, category)


READS: Final[Mapping[str, tuple[Read, ...]]] = {
    "account_information": (lambda e: wire.decode(wire.AccountInformation, e.result, "account"),),
    "fee_rate": (lambda e: decode.fee_rates(wire.decode(wire.FeeRatePage, e.result, "fee-rate"), SYMBOL),),
    "rest_cancel_all": (lambda e: wire.decode(wire.CancelAllAck, e.result, "cancel-all"),),
    "rest_create": (lambda e: wire.decode(wire.OrderAck, e.result, "create"),),
    "rest_executions": (_executions,),
    "rest_instrument_linear": (lambda e: _instrument(e, "linear"),),
    "rest_instrument_spot": (lambda e: _instrument(e, "spot"),),
    "rest_key_information": (lambda e: wire.decode(wire.KeyInformation, e.result, "key"),),
    "rest_open_orders": (_orders,),
    "rest_order_history_post_only_refused": (_orders,),
    "rest_orderbook": (lambda e: decode.top_of_book(wire.decode(wire.BookRows, e.result, "orderbook")),),
    "rest_position_flat": (_position,),
    "rest_position_short": (_position,),
    "rest_time": (lambda e: decode.whole(wire.decode(wire.ServerTime, e.result, "time").time_nano, "timeNano"),),
    "rest_wallet": (
        lambda e: decode.wallet(_wallet(e), "USDT", "linear"),
        lambda e: decode.coin_equity_quote(_wallet(e), "USDT"),
    ),
    "wallet_spot": (
        lambda e: decode.wallet(_wallet(e), "USDT", "spot"),
        lambda e: decode.coin_balance(_wallet(e), "BTC"),
    ),
}
"""Golden answers and those below, by what the adapter makes of them."""


def _answer(result: dict[str, Any], more: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": more or {}, "time": 1_764_590_400_250}


ANSWERS: Final = {
    "account_information": _answer(
        {"marginMode": "REGULAR_MARGIN", "unifiedMarginStatus": 5, "dcpStatus": "OFF", "timeWindow": 10,
         "isMasterTrader": False, "updatedTime": "1764590400000"}
    ),
    "fee_rate": _answer({"list": [{"symbol": SYMBOL, "takerFeeRate": "0.00055", "makerFeeRate": "-0.0001"}]}),
    "wallet_spot": _answer(
        {"list": [{"accountType": "UNIFIED", "totalEquity": "41230.77", "totalInitialMargin": "0", "coin": [
            {"coin": "BTC", "equity": "0.21004", "walletBalance": "0.21004", "cumRealisedPnl": "-0.0000031"},
            {"coin": "USDT", "equity": "22066.40", "walletBalance": "22066.40", "cumRealisedPnl": "12.5"}]}]}
    ),
}  # fmt: skip
TRADE_ANSWERS: Final = (
    {"reqId": "0-1", "retCode": 0, "retMsg": "OK", "op": "order.create", "data": {"orderId": "v-1"},
     "retExtInfo": {}, "header": {"X-Bapi-Limit": "10", "X-Bapi-Limit-Status": "9"}, "connId": "c"},
    {"retCode": 0, "retMsg": "OK", "op": "auth", "connId": "c"},
)  # fmt: skip


def _batch(*ends: tuple[str, int, str]) -> dict[str, Any]:
    rows = [
        {"category": "linear", "symbol": SYMBOL, "orderId": venue_id, "orderLinkId": f"slwq-1-{number}"}
        for number, (venue_id, _, _) in enumerate(ends, 1)
    ]
    return _answer({"list": rows}, {"list": [{"code": code, "msg": message} for _, code, message in ends]})


BATCH_ANSWERS: Final = {
    "create": _batch(("v-1", 0, "OK"), ("", 110007, "insufficient balance")),
    "amend": _batch(("v-1", 0, "OK"), ("v-2", 0, "OK")),
    "cancel": _batch(("v-1", 0, "OK"), ("", 110001, "order not exists or too late to cancel")),
}
_QTY, _PRICES = Decimal("0.010"), (Decimal("59000.0"), Decimal("59000.1"))
_BATCHES: Final[dict[str, tuple[Call, ...]]] = {
    "create": tuple(
        calls.create_post_only("linear", SYMBOL, Side.BUY, _QTY, price, f"slwq-1-{number}", False)
        for number, price in enumerate(_PRICES, 1)
    ),
    "amend": tuple(
        calls.amend("linear", SYMBOL, f"slwq-1-{number}", _QTY, price) for number, price in enumerate(_PRICES, 1)
    ),
    "cancel": tuple(calls.cancel("linear", SYMBOL, client_order_id=f"slwq-1-{number}") for number in (1, 2)),
}


class Batches:
    """The bot's own order entry, with a venue that answers a batch of two with whatever it is given.

    `runner`: of the loop it works on, while cases are run. `outcomes`: of the newest batch of each kind.
    """

    runner: asyncio.Runner

    def __init__(self) -> None:
        self._body = b""
        self.outcomes: dict[str, list[Outcome]] = {}
        self._now_ns = NOW_NS
        rest = BybitRest(self, "", "k", "s", self._later, 5_000, 1.0)  # type: ignore[arg-type]  # it asks for no socket
        self._entry = OrderEntry(rest, None, 1.0, 2, lambda _epoch: True)

    def _later(self) -> int:
        """A clock on which no rate limit is ever reached."""
        self._now_ns += MINUTE_NS
        return self._now_ns

    async def request(
        self, _method: str, _url: str, _headers: Mapping[str, str], _body: bytes, _timeout_s: float
    ) -> HttpAnswer:
        return HttpAnswer(200, {}, self._body)

    def take(self, kind: str, raw: bytes) -> None:
        """Both outcomes are there and are one of what an outcome can be. Raises VenueGarbled where neither is known."""
        self._body = raw
        outcomes = self.outcomes[kind] = self.runner.run(self._ask(_BATCHES[kind]))
        assert len(outcomes) == len(_BATCHES[kind])
        assert all(isinstance(one, Accepted | Refused | Unknown) for one in outcomes), outcomes
        unknown = [one for one in outcomes if isinstance(one, Unknown)]
        if len(unknown) == len(outcomes):
            raise VenueGarbled(unknown[0].detail)

    async def _ask(self, several: tuple[Call, ...]) -> list[Outcome]:
        return await asyncio.gather(*map(self._entry.mutate, several))
