"""The real capture of BTCUSDT, where it lies beside the checkout, plays to its end as a market that could have been."""

from pathlib import Path

import pytest

from bot.domain.order import Side
from bot.simulator.listings import RECORDED
from bot.simulator.recorded import RecordedMarket, load_record
from bot.simulator.venue import Venue


@pytest.mark.parametrize("name", ["spot/btcusdt_20240808.gz", "cm/btcusd_perp_20240808.gz"])
def test_the_real_capture_plays_for_its_whole_span_and_is_never_crossed(name: str) -> None:
    capture = Path(__file__).resolve().parents[3] / "shared" / "data" / name
    if not capture.is_file():
        pytest.skip("the real captures are not beside this checkout")
    record = load_record(capture)
    assert -1_400 < record.clock_offset_ms < -1_200
    venue = Venue(RECORDED, RecordedMarket(record), seed=1, now_ns=0)
    while venue.next_at_ns() < record.span_ms * 1_000_000:
        venue.advance(venue.next_at_ns())
        venue.drain()
        bid, ask = venue.book.best(Side.BUY), venue.book.best(Side.SELL)
        assert bid is not None
        assert ask is not None
        assert bid < ask
