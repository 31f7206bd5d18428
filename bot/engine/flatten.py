"""Flattening after a lost grant: reduce-only, immediate-or-cancel, inside a band, one slice a second.

These are no quotes: own id prefix, own class, no taker gate. Reduce-only at the venue means that a slice whose outcome
is unknown can never turn the position round.
"""

from __future__ import annotations

from bot.domain.intent import FlattenReduceOnly
from bot.domain.order import FLATTEN_PREFIX, Side
from bot.engine.parameters import UBPS_ONE, seconds_ns, ubps
from bot.engine.state import State
from bot.engine.stopping import Stopping


class Flatten:
    """Slices of the positions that are left when permission has been gone for `flatten_after_s`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sent_ns: dict[str, int] = {}

    def tick(self, stopping: Stopping) -> None:
        """Send what is due. Waits for the proof that no quote of ours stands and for a book to bound the price by.

        After a restart no stop need hold whose proof that were: what an earlier process left has to be gone as well.
        """
        state, parameters = self._state, self._state.parameters
        if state.grant_lost_ns is None or not stopping.proven:
            return
        if state.now_ns - state.grant_lost_ns < seconds_ns(parameters.flatten_after_s) or state.orders.any_live():
            return
        for symbol in parameters.symbols:
            sent_ns = self._sent_ns.get(symbol)
            if sent_ns is None or state.now_ns - sent_ns >= seconds_ns(parameters.flatten_interval_s):
                self._slice(symbol)

    def _slice(self, symbol: str) -> None:
        state, parameters = self._state, self._state.parameters
        position = state.ledger.accounts[symbol].position_lots
        book, instrument = state.books[symbol], state.instruments.get(symbol)
        if not position or instrument is None or book.top is None:
            return
        if state.now_ns - book.updated_at_ns > parameters.stale_after_ms * 1_000_000:
            return
        band = ubps(parameters.flatten_band_bps)
        bid, ask = book.top
        if position > 0:
            side, limit = Side.SELL, -(-bid * (UBPS_ONE - band) // UBPS_ONE)
        else:
            side, limit = Side.BUY, ask * (UBPS_ONE + band) // UBPS_ONE
        unit = instrument.tick_size * instrument.lot_size
        slice_lots = max(1, int(parameters.order_notional_max_quote / unit) // ask)
        slice_lots = max(slice_lots, instrument.lots_floor(instrument.qty_min))
        slice_lots = min(slice_lots, max(1, instrument.lots_floor(instrument.qty_max)))
        state.sequence += 1
        client_order_id = f"{FLATTEN_PREFIX}-{state.epoch}-{state.sequence}"
        lots = min(abs(position), slice_lots)
        self._sent_ns[symbol] = state.now_ns
        state.emit(FlattenReduceOnly(state.now_ns, client_order_id, symbol, side, lots, max(1, limit)))
        state.note(
            "WARNING", "order_placed", client_order_id=client_order_id, symbol=symbol, side=side.value, flatten=True
        )
