"""nautilus_trader's BacktestEngine with a two-quote inventory-skew strategy in Python, on L2 deltas.

Set up as its authors would for speed: no log, no latency model, no analysis after the run, floats and no decimals in
the strategy, the position kept by the strategy itself, amends in place of cancel and new. Its risk engine is on, as by
default. An update is one `OrderBookDeltas`; it is given no trades.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable

from feed_file import Feed, Levels, Played, Task, serve
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.backtest.models import LatencyModel
from nautilus_trader.config import LoggingConfig, StrategyConfig
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import BookOrder, OrderBookDelta, OrderBookDeltas
from nautilus_trader.model.enums import AccountType, BookAction, BookType, OmsType, OrderSide, RecordFlag
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import TraderId
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

INSTRUMENT = TestInstrumentProvider.btcusdt_perp_binance()
START_NS = 1_767_225_600_000_000_000
TICK = 0.1
LOT = 0.001


class QuoterConfig(StrategyConfig, frozen=True):
    half_spread: float
    skew: float
    offset: float
    order_notional_quote: float
    inventory_max_quote: float
    tolerance_ticks: int


class Quoter(Strategy):
    """Two quotes; ratios instead of basis points inside."""

    def __init__(self, config: QuoterConfig) -> None:
        super().__init__(config)
        self.placed = self.amended = self.filled = self.updates = 0
        self._lots = 0
        self._book = None
        self._orders = {OrderSide.BUY: None, OrderSide.SELL: None}
        self._ticks = {OrderSide.BUY: 0, OrderSide.SELL: 0}

    def on_start(self) -> None:
        self.subscribe_order_book_deltas(INSTRUMENT.id, book_type=BookType.L2_MBP)

    def on_order_book_deltas(self, deltas: OrderBookDeltas) -> None:
        self.updates += 1
        if self._book is None:
            self._book = self.cache.order_book(INSTRUMENT.id)
        bid, ask = self._book.best_bid_price(), self._book.best_ask_price()
        if bid is None or ask is None:
            return
        bid, ask = bid.as_double(), ask.as_double()
        config, mid = self.config, (bid + ask) / 2
        held_quote = self._lots * LOT * mid
        skew = config.skew * max(-1.0, min(1.0, held_quote / config.inventory_max_quote))
        lots = int(config.order_notional_quote / mid / LOT)
        room = config.inventory_max_quote - lots * LOT * mid
        buy = min(mid * (1 - config.half_spread - skew), bid * (1 - config.offset))
        sell = max(mid * (1 + config.half_spread - skew), ask * (1 + config.offset))
        self._keep(OrderSide.BUY, math.floor(buy / TICK + 1e-6), lots if held_quote <= room else 0)
        self._keep(OrderSide.SELL, math.ceil(sell / TICK - 1e-6), lots if held_quote >= -room else 0)

    def _keep(self, side: OrderSide, ticks: int, lots: int) -> None:
        order = self._orders[side]
        if order is None or order.is_closed:
            if lots:
                self._place(side, ticks, lots)
        elif order.is_inflight:
            return
        elif not lots:
            self.cancel_order(order)
        elif abs(ticks - self._ticks[side]) > self.config.tolerance_ticks:
            self._ticks[side] = ticks
            self.amended += 1
            self.modify_order(order, price=Price(ticks * TICK, 1))

    def _place(self, side: OrderSide, ticks: int, lots: int) -> None:
        self._ticks[side] = ticks
        self.placed += 1
        order = self.order_factory.limit(
            INSTRUMENT.id, side, Quantity(lots * LOT, 3), Price(ticks * TICK, 1), post_only=True
        )
        self._orders[side] = order
        self.submit_order(order)

    def on_order_filled(self, event: OrderFilled) -> None:
        self.filled += 1
        lots = round(event.last_qty.as_double() / LOT)
        self._lots += lots if event.order_side == OrderSide.BUY else -lots


def deltas(levels: tuple[Levels, Levels], at_ns: int, sequence: int) -> OrderBookDeltas | None:
    found = []
    count = len(levels[0]) + len(levels[1])
    for side, changes in zip((OrderSide.BUY, OrderSide.SELL), levels, strict=True):
        for ticks, lots in changes:
            order = BookOrder(side, Price(ticks * TICK, 1), Quantity(lots * LOT, 3), 0)
            flags = RecordFlag.F_LAST if len(found) == count - 1 else 0
            action = BookAction.UPDATE if lots else BookAction.DELETE
            found.append(OrderBookDelta(INSTRUMENT.id, action, order, flags, sequence, at_ns, at_ns))
    return OrderBookDeltas(INSTRUMENT.id, found) if found else None


def prepare(feed: Feed) -> Callable[[Task], Played]:
    if (float(feed.tick_size), float(feed.lot_size)) != (TICK, LOT):
        raise ValueError(f"tick {feed.tick_size}, lot {feed.lot_size}: expected {TICK}, {LOT}")
    made = [deltas(feed.levels, START_NS, 0)]
    for number, update in enumerate(feed.updates, 1):
        made.append(deltas(update.levels, START_NS + number * feed.step_ns, number))
    data = [one for one in made if one is not None]
    gc.collect()
    gc.freeze()
    return lambda task: play(task, data)


def play(task: Task, data: list[OrderBookDeltas]) -> Played:
    engine = BacktestEngine(
        BacktestEngineConfig(
            trader_id=TraderId("BENCH-001"), logging=LoggingConfig(bypass_logging=True), run_analysis=False
        )
    )
    latency = LatencyModel(base_latency_nanos=task.latency_ns) if task.latency_ns else None
    engine.add_venue(
        INSTRUMENT.id.venue, OmsType.NETTING, AccountType.MARGIN, [Money(100_000, USDT)], latency_model=latency,
        book_type=BookType.L2_MBP,
    )  # fmt: skip
    engine.add_instrument(INSTRUMENT)
    engine.add_data(data, sort=False)
    strategy = Quoter(
        QuoterConfig(
            half_spread=task.half_spread_bps / 1e4,
            skew=task.skew_bps / 1e4,
            offset=task.offset_bps / 1e4,
            order_notional_quote=task.order_notional_quote,
            inventory_max_quote=task.inventory_max_quote,
            tolerance_ticks=task.tolerance_ticks,
        )
    )
    engine.add_strategy(strategy)
    gc.collect()
    began_s = time.process_time()
    engine.run()
    cpu_s = time.process_time() - began_s
    played = Played(cpu_s, strategy.updates, strategy.placed, strategy.amended, strategy.filled)
    engine.dispose()
    return played


if __name__ == "__main__":
    serve(prepare)
