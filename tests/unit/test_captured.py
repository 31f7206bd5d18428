"""A capture as a market of the simulated venue: later snapshots change what differs, and nothing crossed is played."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from bot.capture import CaptureWriter, Header, is_capture
from bot.domain.events import BookDelta, BookSnapshot, Event, InstrumentsRead, Ticked, TradePrinted
from bot.domain.order import Side
from bot.simulator.captured import load_captured
from bot.simulator.recorded import DepthUpdate, RecordUnreadable

LISTED = InstrumentsRead(
    1, "BTCUSDT", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(100), Decimal(5), "linear", "BTC", "USDT",
    "fetched",
)  # fmt: skip
MS = 1_000_000
WHOLE = BookSnapshot(2, "BTCUSDT", ((100, 5), (99, 4)), ((102, 5), (103, 6)), 1, 1_000 * MS)


def capture(folder: Path, *events: Event, symbols: tuple[str, ...] = ("BTCUSDT",)) -> Path:
    path = folder / "one.gz"
    with CaptureWriter(path, Header(1, "bybit", "linear", symbols, "v")) as writer:
        for event in (LISTED, *events):
            writer.take(event)
    return path


def test_books_and_trades_are_played_in_the_venue_s_time(tmp_path: Path) -> None:
    path = capture(
        tmp_path,
        WHOLE,
        Ticked(3),
        BookDelta(3, "BTCUSDT", ((101, 7),), (), 2, 1_100 * MS),
        TradePrinted(4, "BTCUSDT", 101, 2, Side.SELL, 1_150 * MS),
        BookSnapshot(5, "BTCUSDT", ((100, 9),), ((102, 5),), 3, 1_200 * MS),
    )
    assert is_capture(path)
    instrument, record = load_captured(path)
    assert (instrument.symbol, instrument.tick_size) == ("BTCUSDT", Decimal("0.1"))
    assert (record.bids, record.asks) == ({100: 5, 99: 4}, {102: 5, 103: 6})
    assert [at_ms for at_ms, _ in record.events] == [1_100, 1_150, 1_200]
    last = record.events[-1][1]
    assert isinstance(last, DepthUpdate)
    changes = dict(zip(last.bids[::2], last.bids[1::2], strict=True))
    assert changes == {99: 0, 101: 0, 100: 9}
    assert record.end_shift_ticks == 0


def test_a_crossed_book_is_never_played(tmp_path: Path) -> None:
    path = capture(tmp_path, WHOLE, BookDelta(3, "BTCUSDT", ((102, 1),), (), 2, 1_100 * MS))
    with pytest.raises(RecordUnreadable, match="crossed or one-sided"):
        load_captured(path)


def test_what_is_no_market_of_one_symbol_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordUnreadable, match="no whole book"):
        load_captured(capture(tmp_path))
    with pytest.raises(RecordUnreadable, match="holds BTCUSDT, ETHUSDT; a market is played of one symbol"):
        load_captured(capture(tmp_path, WHOLE, symbols=("BTCUSDT", "ETHUSDT")))


def test_a_recording_that_breaks_off_keeps_no_file_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "broken.gz"
    with pytest.raises(OSError, match="no room"), CaptureWriter(path, Header(1, "b", "linear", (), "v")):
        raise OSError("no room")
    assert not path.exists()
    assert (tmp_path / "broken.gz.part").exists()
