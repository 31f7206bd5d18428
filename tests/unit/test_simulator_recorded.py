"""A recorded market: the two traps of such captures, the end of the record, and captures that cannot be played."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest

from bot.domain.order import Side
from bot.simulator.listings import RECORDED
from bot.simulator.orders import NewOrder, Printed, Status, TimeInForce
from bot.simulator.recorded import RecordedMarket, RecordUnreadable, load_record
from bot.simulator.venue import Venue

T0_MS = 1_700_000_000_000
BEHIND_MS = 1_270
"""The collector's clock runs this much behind the exchange's."""


def _line(local_ms: int, message: object) -> str:
    return f"{local_ms * 1_000_000} {json.dumps(message)}\n"


def _depth(at_ms: int, first: int, last: int, bids: list[list[str]], asks: list[list[str]]) -> str:
    data = {"e": "depthUpdate", "E": T0_MS + at_ms, "s": "BTCUSDT", "U": first, "u": last, "b": bids, "a": asks}
    return _line(T0_MS + at_ms + 5 - BEHIND_MS, {"stream": "btcusdt@depth@100ms", "data": data})


def _trade(at_ms: int, price: str, qty: str, *, buyer_is_maker: bool, late_ms: int = 0) -> str:
    data = {"e": "trade", "E": T0_MS + at_ms, "s": "BTCUSDT", "p": price, "q": qty, "T": T0_MS + at_ms}
    message = {"stream": "btcusdt@trade", "data": {**data, "m": buyer_is_maker}}
    return _line(T0_MS + at_ms + late_ms + 5 - BEHIND_MS, message)


def _snapshot(at_ms: int, last_id: int) -> str:
    bids, asks = [["100.00", "1.00000"], ["99.00", "5.00000"]], [["100.10", "1.00000"], ["101.00", "5.00000"]]
    return _line(T0_MS + at_ms - BEHIND_MS, {"lastUpdateId": last_id, "bids": bids, "asks": asks})


def _capture(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "btcusdt.gz"
    path.write_bytes(gzip.compress("".join(lines).encode()))
    return path


def _lines() -> tuple[str, ...]:
    return (
        _depth(0, 5, 9, [["90.00", "3.00000"]], []),
        _depth(100, 10, 14, [["100.00", "0"]], [["99.50", "2.00000"]]),  # received before the snapshot, belongs after
        _snapshot(150, 11),
        _trade(260, "99.00", "1.50000", buyer_is_maker=True, late_ms=90),
        _depth(300, 15, 20, [["99.00", "3.50000"]], []),
        _depth(400, 21, 21, [["99.20", "1.00000"]], [["99.50", "0"], ["99.60", "1.234567"]]),
    )


def test_updates_received_before_the_snapshot_but_ending_beyond_it_are_applied(tmp_path: Path) -> None:
    record = load_record(_capture(tmp_path, *_lines()))
    venue = Venue(RECORDED, RecordedMarket(record), seed=1, now_ns=0)
    assert (venue.book.best(Side.BUY), venue.book.best(Side.SELL)) == (10_000, 10_010)
    venue.advance(0)
    assert (venue.book.best(Side.BUY), venue.book.best(Side.SELL)) == (9_900, 9_950)
    assert venue.book.background_lots(Side.BUY, 9_000) == 0


def test_the_exchange_s_clock_orders_and_paces_the_replay_not_the_collector_s(tmp_path: Path) -> None:
    record = load_record(_capture(tmp_path, *_lines()))
    assert record.clock_offset_ms == 5 - BEHIND_MS
    assert [at_ms - T0_MS for at_ms, _ in record.events] == [100, 260, 300, 400]
    venue = Venue(RECORDED, RecordedMarket(record), seed=1, now_ns=0)
    assert venue.next_at_ns() == 0
    assert venue.advance(160_000_000) == 2
    (trade,) = [h.trade for h in venue.drain() if isinstance(h, Printed)]
    assert (trade.at_ns, trade.taker) == (160_000_000, Side.SELL)
    assert venue.book.background_lots(Side.BUY, 9_900) == 350_000
    venue.advance(200_000_000)
    assert venue.book.background_lots(Side.BUY, 9_900) == 350_000


def test_recorded_trades_reach_own_orders_by_their_place_in_the_queue(tmp_path: Path) -> None:
    venue = Venue(RECORDED, RecordedMarket(load_record(_capture(tmp_path, *_lines()))), seed=1, now_ns=0)
    account = venue.open_account("key", "secret", Decimal(100_000), 0)
    venue.advance(0)
    better = venue.create(account, NewOrder("", Side.BUY, 9_910, 50_000, TimeInForce.POST_ONLY), 1)
    queued = venue.create(account, NewOrder("", Side.BUY, 9_900, 50_000, TimeInForce.POST_ONLY), 1)
    assert venue.book.ahead_lots(queued.key) == 500_000
    venue.advance(160_000_000)
    assert (better.status, queued.status) == (Status.FILLED, Status.NEW)
    assert venue.book.ahead_lots(queued.key) == 350_000
    assert [e.is_maker for e in account.executions] == [True]


def test_at_the_end_the_record_starts_again_without_a_jump_of_the_middle_price(tmp_path: Path) -> None:
    venue = Venue(RECORDED, RecordedMarket(load_record(_capture(tmp_path, *_lines()))), seed=1, now_ns=0)
    venue.advance(299_000_000)
    venue.advance(300_000_000)
    middle_at_end = (9_920 + 9_960) / 2
    bid, ask = venue.book.best(Side.BUY), venue.book.best(Side.SELL)
    assert bid is not None
    assert ask is not None
    assert abs((bid + ask) / 2 - middle_at_end) <= 1
    assert ask - bid == 10
    assert venue.next_at_ns() == 400_000_000


def test_captures_that_cannot_be_played_are_refused_with_place_and_reason(tmp_path: Path) -> None:
    lines = _lines()
    with pytest.raises(RecordUnreadable, match="no snapshot line"):
        load_record(_capture(tmp_path, *lines[:2]))
    with pytest.raises(RecordUnreadable, match="depth updates 15 to 20 are missing"):
        load_record(_capture(tmp_path, *lines[:4], lines[5]))
    with pytest.raises(RecordUnreadable, match=r"btcusdt.gz:7: not `<local time, ns> <JSON>`"):
        load_record(_capture(tmp_path, *lines, "garbage\n"))
    with pytest.raises(RecordUnreadable, match=r"btcusdt.gz:7: not a line of a capture"):
        load_record(_capture(tmp_path, *lines, "123 {nonsense\n"))
    with pytest.raises(RecordUnreadable, match="no such file or folder"):
        load_record(tmp_path / "absent")
    plain = tmp_path / "plain.gz"
    plain.write_text("not gzip")
    with pytest.raises(RecordUnreadable, match="cannot be read"):
        load_record(plain)
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress("".join(lines).encode())[:-12])
    with pytest.raises(RecordUnreadable, match="cannot be read"):
        load_record(cut)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordUnreadable, match=r"holds no \.gz"):
        load_record(tmp_path / "empty")


WRONG_SYMBOL = _depth(450, 22, 22, [["99.20", "1.00000"]], []).replace("BTCUSDT", "ETHUSDT")
CROSSED_FOR_A_MOMENT = (
    _depth(450, 22, 22, [["99.70", "1.00000"]], []),
    _depth(500, 23, 23, [["99.70", "0"]], []),
)


@pytest.mark.parametrize(
    ("added", "said"),
    [
        (
            (WRONG_SYMBOL,),
            "btcusdt.gz:7: not a line of a capture: symbol 'ETHUSDT'; only BTCUSDT and BTCUSD_PERP can be played",
        ),
        (CROSSED_FOR_A_MOMENT, "the book is crossed after depth update 22: bid 9970 against ask 9960 (ticks)"),
        ((_depth(450, 22, 22, [["99.70", "1.00000"]], []),), "crossed after depth update 22"),
        ((_depth(450, 24, 25, [], []),), "depth updates 22 to 23 are missing"),
        ((_depth(450, 22, 22, [["99.7001", "1.00000"]], []),), "btcusdt.gz:7"),
        ((_depth(450, 22, 22, [["-5", "1.00000"]], []),), "'-5' is not a decimal numeral"),
    ],
)
def test_a_capture_of_something_else_or_of_a_crossed_book_is_refused_by_place(
    tmp_path: Path, added: tuple[str, ...], said: str
) -> None:
    path = _capture(tmp_path, *_lines(), *added)
    with pytest.raises(RecordUnreadable) as caught:
        load_record(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_snapshot_that_is_crossed_itself_is_refused(tmp_path: Path) -> None:
    crossed = _snapshot(150, 11).replace("100.10", "99.90")
    lines = _lines()
    with pytest.raises(RecordUnreadable, match="the snapshot is crossed: bid 10000 against ask 9990"):
        load_record(_capture(tmp_path, *lines[:2], crossed, *lines[3:]))


def _contract_lines(*, gap: bool = False) -> tuple[str, ...]:
    """Futures: ids leave room between two updates, each names the last of the one before; sizes are contracts."""

    def depth(at_ms: int, previous: int, first: int, last: int, bids: list[list[str]], asks: list[list[str]]) -> str:
        data = {"e": "depthUpdate", "E": T0_MS + at_ms, "s": "BTCUSD_PERP", "U": first, "u": last, "pu": previous}
        return _line(T0_MS + at_ms - BEHIND_MS, {"stream": "x@depth@0ms", "data": {**data, "b": bids, "a": asks}})

    book = {"bids": [["50000.0", "1000"]], "asks": [["50000.1", "7"]], "symbol": "BTCUSD_PERP"}
    return (
        depth(0, 1, 3, 20, [["50000.0", "4"]], []),  # before the snapshot, but ending beyond it
        _line(T0_MS + 100 - BEHIND_MS, {"lastUpdateId": 11, **book}),
        depth(200, 21 if gap else 20, 40, 55, [], [["50000.1", "0"], ["50000.2", "3"]]),
        depth(300, 55, 80, 81, [["49999.0", "1"]], []),
    )


def test_a_capture_of_contracts_plays_with_what_they_buy_and_follows_the_ids_that_each_update_names(
    tmp_path: Path,
) -> None:
    record = load_record(_capture(tmp_path, *_contract_lines()))
    assert record.bids[5_000_000] == 200_000_000 // 1_000  # 1,000 contracts of 100 USD at 50,000: 2 BTC
    venue = Venue(RECORDED, RecordedMarket(record), seed=1, now_ns=0)
    for _ in range(2):
        venue.advance(venue.next_at_ns())
    assert (venue.book.best(Side.BUY), venue.book.best(Side.SELL)) == (5_000_000, 5_000_020)
    with pytest.raises(RecordUnreadable, match="depth updates 21 to 21 are missing"):
        load_record(_capture(tmp_path, *_contract_lines(gap=True)))
