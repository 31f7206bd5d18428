"""What the market did after our fills, per fill, for people: `markouts.csv`. Never read back by the bot.

A row is written once its 60 s sample is there, or with what is known when the run ends. All in basis points of the mid
at the fill, positive where it was good for us. Sampled at the newest mid when the clock turns: up to a turn late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from bot.domain.events import Filled
from bot.domain.instrument import Instrument

HORIZONS_NS: Final = (1_000_000_000, 5_000_000_000, 60_000_000_000)
_FIRST_NS: Final = 1_000_000_000
COLUMNS: Final = (
    "ts_utc", "execution_id", "client_order_id", "symbol", "side", "price", "quoted_price", "qty", "fee_quote",
    "mid_at_fill", "spread_captured_bps", "slippage_bps", "markout_1s_bps", "markout_5s_bps", "markout_60s_bps",
)  # fmt: skip
_STEP: Final = Decimal("0.0001")


class Sampled:
    """One fill on its way to a row. `mids`: at the fill, then at each horizon reached, the last of them at most."""

    __slots__ = ("at_ns", "due_ns", "fill", "mids", "qty", "quoted")

    def __init__(self, fill: Filled, qty: Decimal, quoted: Decimal | None, mids: list[Decimal]) -> None:
        self.fill = fill
        self.qty = qty
        self.quoted = quoted
        self.mids = mids
        self.at_ns = fill.at_ns
        self.due_ns = fill.at_ns + HORIZONS_NS[0]


class Markouts:
    """Fills that wait for their samples, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[Sampled] = deque()
        self._seen: set[str] = set()
        self._due_ns = 0

    @property
    def waiting(self) -> bool:
        """Whether any fill waits for a sample."""
        return bool(self._waiting)

    def due(self, now_ns: int) -> bool:
        """Whether a sample is due."""
        return bool(self._waiting) and now_ns >= self._due_ns

    def filled(self, fill: Filled, instrument: Instrument, quoted: Decimal | None, mid: Decimal | None) -> None:
        """A fill; `quoted`: the price its order asked for, None where that is not known. Without a mid: no row."""
        if mid is None or fill.execution_id in self._seen:
            return
        self._seen.add(fill.execution_id)
        if not self._waiting or fill.at_ns + HORIZONS_NS[0] < self._due_ns:
            self._due_ns = fill.at_ns + HORIZONS_NS[0]
        self._waiting.append(Sampled(fill, instrument.qty(fill.qty_lots), quoted, [mid]))

    def sample(self, mids: Mapping[str, Decimal | None], now_ns: int) -> list[Sampled]:
        """Takes what is due; gives back the fills that are done."""
        for one in self._waiting:
            if now_ns - one.at_ns < _FIRST_NS:
                break
            if now_ns >= one.due_ns:
                _take(one, mids.get(one.fill.symbol), now_ns)
        done = []
        while self._waiting and len(self._waiting[0].mids) > len(HORIZONS_NS):
            done.append(self._waiting.popleft())
            self._seen.discard(done[-1].fill.execution_id)
        due_ns = 0
        for one in self._waiting:
            if not due_ns or one.due_ns < due_ns:
                due_ns = one.due_ns
        self._due_ns = due_ns
        return done

    def rest(self) -> list[Sampled]:
        """All that still wait, at the end of a run."""
        rest, self._waiting = list(self._waiting), deque()
        return rest


def _take(one: Sampled, mid: Decimal | None, now_ns: int) -> None:
    """What is due; without a mid it stays due."""
    reached = len(one.mids) - 1
    while mid is not None and reached < len(HORIZONS_NS) and now_ns - one.at_ns >= HORIZONS_NS[reached]:
        one.mids.append(mid)
        reached += 1
    one.due_ns = one.at_ns + HORIZONS_NS[min(len(HORIZONS_NS) - 1, reached)]


def figures(one: Sampled) -> tuple[str, ...]:
    """mid at the fill, spread captured, slippage, the three markouts; empty where there is none."""
    fill, mid = one.fill, one.mids[0]
    captured = _bps((mid - fill.price) * fill.side.sign, mid)
    slippage = "" if one.quoted is None else _bps((fill.price - one.quoted) * fill.side.sign, one.quoted)
    moves = [_bps((later - mid) * fill.side.sign, mid) for later in one.mids[1:]]
    moves += [""] * (len(HORIZONS_NS) - len(moves))
    return (format(mid, "f"), captured, slippage, *moves)


def _bps(move: Decimal, of: Decimal) -> str:
    return format((move * 10_000 / of).quantize(_STEP), "f") if of else ""
