"""Self-match prevention: an order never trades with another one of its account, where the taker's tag says so. Pure.

Only the tag of the order that takes counts; once an order rests, its own says nothing to who comes. Source: Bybit V5,
Self Match Prevention. An amend that takes is a taker, with the tag its order was placed with.
"""

from __future__ import annotations

from collections.abc import Callable

from bot.simulator.accounts import Account
from bot.simulator.matching import BACKGROUND, Book
from bot.simulator.orders import EndReason, Order, SelfMatch

End = Callable[[Account, Order, EndReason, int], None]
"""Takes an open order out for that reason; the last is the time."""


class SelfMatches:
    """`orders`: all open ones by key. Asked only for an order that has a tag."""

    def __init__(self, book: Book, orders: dict[int, Order], end: End) -> None:
        self._book = book
        self._orders = orders
        self._end = end

    def ends(self, account: Account, taker: Order, now_ns: int) -> bool:
        """Takes out what the tag says of own orders at the front of the queue; whether the taker itself has ended."""
        while (own := self._own_in_front(account, taker)) is not None:
            self._prevent(account, taker, own, now_ns)
            if not taker.is_open:
                return True
        return False

    def available_lots(self, account: Account, taker: Order) -> int:
        """What a taker could get of others, lots: all down to its limit, or all before the first order of its own."""
        book, side = self._book, taker.side.opposite
        own = self._in_the_way(account, taker)
        if taker.self_match is SelfMatch.CANCEL_MAKER or not own:
            return book.available_lots(taker.side, taker.price_ticks) - sum([order.left_lots for order in own])
        first = own[0]
        better = [level.lots for level in book.levels_to(side, first.price_ticks)]
        here = book.lots_at(side, first.price_ticks)
        return sum(better) - here + book.ahead_lots(first.key)

    def ends_whole(self, account: Account, taker: Order, now_ns: int) -> bool:
        """For an order that trades all or nothing: whether it ends by its tag, because one of its own stands before
        the last lot that it needs. The others, of which there is not enough either, are for the caller to end."""
        own = self._in_the_way(account, taker)
        enough = self._book.available_lots(taker.side, taker.price_ticks) >= taker.left_lots
        if taker.self_match is SelfMatch.CANCEL_MAKER or not own or not enough:
            return False
        self._prevent(account, taker, own[0], now_ns)
        return True

    def _own_in_front(self, account: Account, taker: Order) -> Order | None:
        key = self._book.front(taker.side, taker.price_ticks)
        if key is None or key == BACKGROUND:
            return None
        order = self._orders[key]
        return order if order.account == account.name else None

    def _in_the_way(self, account: Account, taker: Order) -> list[Order]:
        """Own orders that the taker reaches, first come first."""
        reached = [
            order
            for order in account.open_orders.values()
            if order.side is taker.side.opposite
            and self._book.rests(order.key)
            and (taker.price_ticks - order.price_ticks) * taker.side.sign >= 0
        ]
        return sorted(
            reached, key=lambda order: (order.price_ticks * taker.side.sign, self._book.ahead_lots(order.key))
        )

    def _prevent(self, account: Account, taker: Order, maker: Order, now_ns: int) -> None:
        if taker.self_match is not SelfMatch.CANCEL_TAKER:
            maker.self_match_id = taker.order_id
            self._end(account, maker, EndReason.SELF_MATCH, now_ns)
        if taker.self_match is not SelfMatch.CANCEL_MAKER:
            taker.self_match_id = maker.order_id
            self._end(account, taker, EndReason.SELF_MATCH, now_ns)
