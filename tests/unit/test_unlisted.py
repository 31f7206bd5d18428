"""Without filters it is still read which orders stand, of coins that cost next to nothing too."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.domain.instrument import unlisted


@pytest.mark.parametrize(("price", "qty"), [("0.0000000001", "90000000000"), ("1234567.8", "0.00000001")])
def test_prices_and_quantities_as_they_are_listed_are_on_its_grid_and_can_be_written_down(price: str, qty: str) -> None:
    found = unlisted("PEPEUSDT")
    ticks, lots = found.ticks(Decimal(price)), found.lots(Decimal(qty))
    assert (found.price(ticks), found.qty(lots)) == (Decimal(price), Decimal(qty))
    assert max(ticks, lots) < 1 << 63
