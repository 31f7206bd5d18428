"""hftbacktest with the same strategy, compiled by numba: the limit to approach, not a peer (no objects, no journal).

It decides once an update, as the others do. Orders take a nanosecond each way, because the others' take no time either.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import numpy as np
from feed_file import Feed, Levels, Played, Task, serve
from hftbacktest import (
    BUY_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    GTX,
    LIMIT,
    LOCAL_EVENT,
    NEW,
    SELL_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
)
from hftbacktest.types import event_dtype
from numba import njit

START_NS = 1_767_225_600_000_000_000
BOTH = EXCH_EVENT | LOCAL_EVENT | DEPTH_EVENT
BUY_ID, SELL_ID = 1, 2


@njit
def quote(hbt, step_ns, half_spread, skew_max, offset, notional, inventory_max, tolerance):
    """Returns updates, placed, amended, filled."""
    updates = placed = amended = filled = 0
    ids = np.array([0, 0], dtype=np.int64)
    stand = np.array([0, 0], dtype=np.int64)
    next_id = 1
    trades_before = 0
    tick = hbt.depth(0).tick_size
    lot = hbt.depth(0).lot_size
    while hbt.elapse(step_ns) == 0:
        updates += 1
        depth = hbt.depth(0)
        bid, ask = depth.best_bid, depth.best_ask
        mid = (bid + ask) / 2
        held = hbt.position(0) * mid
        skew = skew_max * max(-1.0, min(1.0, held / inventory_max))
        lots = int(notional / mid / lot)
        room = inventory_max - lots * lot * mid
        hbt.clear_inactive_orders(0)
        orders = hbt.orders(0)
        for side in range(2):
            if side == 0:
                wanted = int(np.floor(min(mid * (1 - half_spread - skew), bid * (1 - offset)) / tick + 1e-6))
                may = held <= room
            else:
                wanted = int(np.ceil(max(mid * (1 + half_spread - skew), ask * (1 + offset)) / tick - 1e-6))
                may = held >= -room
            order = orders.get(ids[side]) if ids[side] else None
            if order is None:
                if may:
                    ids[side] = next_id
                    next_id += 1
                    stand[side] = wanted
                    placed += 1
                    if side == 0:
                        hbt.submit_buy_order(0, ids[side], wanted * tick, lots * lot, GTX, LIMIT, False)
                    else:
                        hbt.submit_sell_order(0, ids[side], wanted * tick, lots * lot, GTX, LIMIT, False)
            elif order.status == NEW:
                if not may:
                    hbt.cancel(0, ids[side], False)
                elif abs(wanted - stand[side]) > tolerance:
                    stand[side] = wanted
                    amended += 1
                    hbt.modify(0, ids[side], wanted * tick, order.leaves_qty, False)
        trades = hbt.state_values(0).num_trades
        filled += trades - trades_before
        trades_before = trades
    return updates, placed, amended, filled


def _rows(levels: tuple[Levels, Levels], at_ns: int, tick: float, lot: float) -> list[tuple[object, ...]]:
    sides = zip((BUY_EVENT, SELL_EVENT), levels, strict=True)
    return [
        (BOTH | side, at_ns, at_ns, ticks * tick, lots * lot, 0, 0, 0.0)
        for side, changes in sides
        for ticks, lots in changes
    ]


def prepare(feed: Feed) -> Callable[[Task], Played]:
    tick, lot = float(feed.tick_size), float(feed.lot_size)
    rows = _rows(feed.levels, START_NS, tick, lot)
    for number, update in enumerate(feed.updates, 1):
        rows += _rows(update.levels, START_NS + number * feed.step_ns, tick, lot)
    data = np.array(rows, dtype=event_dtype)
    del rows
    gc.collect()
    few = data[data["local_ts"] <= START_NS + 50 * feed.step_ns]
    play(Task(6.0, 4.0, 2.0, 150.0, 2000.0, 0), few, feed)  # compiles
    return lambda task: play(task, data, feed)


def play(task: Task, data: np.ndarray, feed: Feed) -> Played:
    asset = (
        BacktestAsset()
        .data(data)
        .linear_asset(1.0)
        .constant_order_latency(1, 1)
        .risk_adverse_queue_model()
        .partial_fill_exchange()
        .trading_value_fee_model(0.0001, 0.0007)
        .tick_size(float(feed.tick_size))
        .lot_size(float(feed.lot_size))
    )
    hbt = HashMapMarketDepthBacktest([asset])
    numbers = (task.half_spread_bps / 1e4, task.skew_bps / 1e4, task.offset_bps / 1e4)
    began_s = time.process_time()
    updates, placed, amended, filled = quote(
        hbt, feed.step_ns, *numbers, task.order_notional_quote, task.inventory_max_quote, task.tolerance_ticks
    )
    cpu_s = time.process_time() - began_s
    hbt.close()
    return Played(cpu_s, updates, placed, amended, filled)


if __name__ == "__main__":
    serve(prepare)
