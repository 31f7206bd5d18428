"""What the simulated venue can list: instruments with filters like the real ones, and the market of each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from bot.domain.instrument import Category, Instrument
from bot.simulator.accounts import Fees
from bot.simulator.exchange import Exchange
from bot.simulator.funding import FUNDING_NS
from bot.simulator.market import GeneratedMarket, Market, MarketParameters
from bot.simulator.venue import Venue


class Listed(NamedTuple):
    """An instrument and where its generated price begins, ticks."""

    instrument: Instrument
    start_ticks: int


def _listed(
    category: Category, base: str, tick: str, lot: str, qty_max: str, start_price: str, *, qty_min: str = ""
) -> Listed:
    tick_size, lot_size = Decimal(tick), Decimal(lot)
    instrument = Instrument(
        f"{base}USDT", category, base, "USDT", tick_size, lot_size, Decimal(qty_min or lot), Decimal(qty_max),
        Decimal("5"),
    )  # fmt: skip
    return Listed(instrument, int(Decimal(start_price) / tick_size))


LISTINGS: Final[Mapping[tuple[Category, str], Listed]] = {
    (one.instrument.category, one.instrument.symbol): one
    for one in (
        _listed("linear", "BTC", "0.1", "0.001", "100", "60000"),
        _listed("linear", "ETH", "0.01", "0.01", "1000", "3000"),
        _listed("linear", "SOL", "0.01", "0.1", "50000", "150"),
        _listed("spot", "BTC", "0.1", "0.0001", "80", "60000"),
        _listed("spot", "ETH", "0.01", "0.001", "1500", "3000"),
        _listed("spot", "SOL", "0.01", "0.01", "20000", "150"),
    )
}
GENERATED: Final = LISTINGS["linear", "BTCUSDT"].instrument
RECORDED: Final = Instrument(
    "BTCUSDT", "linear", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal("0.00001"), Decimal("100"),
    Decimal("5"),
)  # fmt: skip
SPOT_FEES: Final = Fees(Decimal("0.001"), Decimal("0.001"))
"""The entry tier for spot."""

MarketOf = Callable[[Instrument, int], Market]
"""An instrument and a seed to its market."""


_USUAL: Final = MarketParameters()


def generated(instrument: Instrument, seed: int, step_ns: int = _USUAL.step_ns) -> GeneratedMarket:
    """The generated market from the listing's price on; an instrument that is not listed begins where BTCUSDT does."""
    listed = LISTINGS.get((instrument.category, instrument.symbol))
    start_ticks = _USUAL.start_ticks if listed is None else listed.start_ticks
    return GeneratedMarket(seed, MarketParameters(start_ticks=start_ticks, step_ns=step_ns))


def exchange_of(
    instruments: Sequence[Instrument],
    market_of: MarketOf,
    *,
    seed: int,
    now_ns: int,
    fees: Fees | None = None,
    funding_ns: int = FUNDING_NS,
) -> Exchange:
    """An exchange of these instruments. The first has the seed itself, the others one of their own from it.

    `fees` of linear contracts; spot has SPOT_FEES.
    """
    venues: list[Venue] = []
    for number, instrument in enumerate(instruments):
        own_seed = seed + number * 7_919
        venues.append(
            Venue(
                instrument,
                market_of(instrument, own_seed),
                seed=own_seed,
                now_ns=now_ns,
                fees=SPOT_FEES if instrument.category == "spot" else fees,
                funding_ns=funding_ns,
                faults=venues[0].faults if venues else None,
            )
        )
    return Exchange(venues)
