"""Batches of Bybit V5: several orders in one request, each with an answer of its own. Pure.

The orders are acted on in turn. A bucket that runs out in the middle refuses the rest, and only those: a batch may
succeed in part, which `retCode` does not tell; only the list in `retExtInfo` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bot.simulator.bybit_access import V5Error
from bot.simulator.bybit_amends import Amends
from bot.simulator.bybit_messages import ms
from bot.simulator.bybit_orders import BATCH_MAX, Params, check_category
from bot.simulator.bybit_written import quoted
from bot.simulator.exchange import Exchange

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
                raise _over_the_limit()
            ids = act(order)
        except V5Error as error:
            row = _row_of_none(order["category"], order.get("symbol", ""), order.get("orderLinkId", ""))
            if creates:
                row["createAt"] = ""
            rows.append(quoted(row))
            ends.append(_end(error))
            continue
        created = f',"createAt":"{ms(now_ns)}"' if creates else ""  # what follows is the venue's own: as it stands
        rows.append(
            f'{{"category":"{order["category"]}","symbol":"{order["symbol"]}","orderId":"{ids["orderId"]}",'
            f'"orderLinkId":"{ids["orderLinkId"]}"{created}}}'
        )
        ends.append(_DONE)
    return BatchAnswer(_listed(rows), _listed(ends))


def amend(amends: Amends, admitted: int, now_ns: int) -> BatchAnswer:
    """As `run`, of amendments that were read from their text."""
    rows: list[str] = []
    refused: dict[int, str] = {}
    prices_ticks = amends.prices_ticks
    for number, order in enumerate(amends.orders):
        desk = order.desk
        try:
            if number >= admitted:
                raise _over_the_limit()
            desk.amend(desk.named(order.link_id), prices_ticks[number], order.qty_lots, now_ns)
            rows.append(order.row)
        except V5Error as error:
            rows.append(quoted(_row_of_none(desk.category, order.symbol, order.link_id)))
            refused[number] = _end(error)
    if not refused:
        return BatchAnswer(_listed(rows), _ALL_DONE[len(rows)])
    return BatchAnswer(_listed(rows), _listed([refused.get(number, _DONE) for number in range(len(rows))]))


def _over_the_limit() -> V5Error:
    return V5Error(10006, "Too many visits. Exceeded the API Rate Limit.")


def _row_of_none(category: object, symbol: object, link_id: object) -> Params:
    """Of an order that nothing was done about."""
    return {"category": category, "symbol": symbol, "orderId": "", "orderLinkId": link_id}


def _end(error: V5Error) -> str:
    return quoted({"code": error.code, "msg": error.message})


def _listed(rows: list[str]) -> str:
    return f'{{"list":[{",".join(rows)}]}}'


_DONE: Final = '{"code":0,"msg":"OK"}'
_ALL_DONE: Final = [_listed([_DONE] * orders) for orders in range(1 + max(BATCH_MAX.values()))]
