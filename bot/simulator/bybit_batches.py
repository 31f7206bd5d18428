"""Batches of Bybit V5: several orders in one request, each with an answer of its own. Pure.

The orders are acted on in turn. A bucket that runs out in the middle refuses the rest, and only those: a batch may
succeed in part, which `retCode` does not tell; only the list in `retExtInfo` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from bot.simulator.bybit_access import V5Error
from bot.simulator.bybit_messages import ms
from bot.simulator.bybit_orders import Params, check_category
from bot.simulator.bybit_written import quoted
from bot.simulator.exchange import Exchange

BATCH_MAX = {"linear": 20, "spot": 10}
"""Orders in one request."""

OF_ONE: Mapping[str, str] = {
    "/v5/order/create-batch": "/v5/order/create",
    "/v5/order/amend-batch": "/v5/order/amend",
    "/v5/order/cancel-batch": "/v5/order/cancel",
}
"""Path of the batch to the path of what it does to each order."""


class BatchAnswer(NamedTuple):
    """Lists in JSON that run side by side, in the order of the request."""

    rows: msgspec.Raw
    ends: msgspec.Raw


ActOnOne = Callable[[Params], Mapping[str, object]]


def orders_of(exchange: Exchange, params: Params) -> list[Params]:
    """The orders of a batch, each with the batch's category. Raises V5Error 10001."""
    most = BATCH_MAX[check_category(exchange, params)]
    orders = params.get("request")
    if not isinstance(orders, list) or not all(isinstance(order, dict) for order in orders):
        raise V5Error(10001, "params error: request is not a list of orders")
    if not 1 <= len(orders) <= most:
        raise V5Error(10001, f"params error: a request of {len(orders)} orders is outside 1 to {most}")
    return [{**order, "category": params["category"]} for order in orders]


def run(orders: list[Params], admitted: int, act: ActOnOne, now_ns: int, *, creates: bool) -> BatchAnswer:
    """Act on the first `admitted` orders; those after them answer 10006."""
    rows: list[str] = []
    ends: list[str] = []
    for number, order in enumerate(orders):
        try:
            if number >= admitted:
                raise V5Error(10006, "Too many visits. Exceeded the API Rate Limit.")
            ids = act(order)
        except V5Error as error:
            row: Params = {"category": order["category"], "symbol": order.get("symbol", "")}
            row |= {"orderId": "", "orderLinkId": order.get("orderLinkId", "")}
            if creates:
                row["createAt"] = ""
            rows.append(quoted(row))
            ends.append(quoted({"code": error.code, "msg": error.message}))
            continue
        created = f',"createAt":"{ms(now_ns)}"' if creates else ""  # what follows is the venue's own: as it stands
        rows.append(
            f'{{"category":"{order["category"]}","symbol":"{order["symbol"]}","orderId":"{ids["orderId"]}",'
            f'"orderLinkId":"{ids["orderLinkId"]}"{created}}}'
        )
        ends.append('{"code":0,"msg":"OK"}')
    return BatchAnswer(_listed(rows), _listed(ends))


def _listed(texts: list[str]) -> msgspec.Raw:
    return msgspec.Raw(f'{{"list":[{",".join(texts)}]}}'.encode())
