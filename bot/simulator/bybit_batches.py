"""Batches of Bybit V5: several orders in one request, each with an answer of its own. Pure.

The orders are acted on in turn. A bucket that runs out in the middle refuses the rest, and only those: a batch may
succeed in part, which `retCode` does not tell; only the list in `retExtInfo` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


class BatchAnswer:
    """Both in JSON; their lists run side by side, in the order of the request."""

    __slots__ = ("ends", "rows")

    def __init__(self, rows: str, ends: str) -> None:
        self.rows = rows
        self.ends = ends


ActOnOne = Callable[[Params], Mapping[str, object]]


def orders_of(exchange: Exchange, params: Params) -> list[Params]:
    """The orders of a batch, each with the batch's category. Raises V5Error 10001."""
    category = check_category(exchange, params)
    most = BATCH_MAX[category]
    listed = params.get("request")
    orders: list[Params] = []
    for order in listed if isinstance(listed, list) else ():
        if isinstance(order, dict):
            order["category"] = category
            orders.append(order)
    if not isinstance(listed, list) or len(orders) < len(listed):
        raise V5Error(10001, "params error: request is not a list of orders")
    if not 1 <= len(orders) <= most:
        raise V5Error(10001, f"params error: a request of {len(orders)} orders is outside 1 to {most}")
    return orders


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
    return BatchAnswer(f'{{"list":[{",".join(rows)}]}}', f'{{"list":[{",".join(ends)}]}}')
