"""A change of a book read straight from its text, in either way: the same as field by field, or not at all."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.domain.events import BookDelta, BookSnapshot
from bot.simulator.listings import GENERATED
from bot.venues.bybit import wire
from bot.venues.bybit.book_scan import BookScan
from bot.venues.bybit.book_text import TOPIC_AT, BookText, topic_of
from bot.venues.bybit.decode import Grid, book_event
from bot.venues.port import VenueGarbled

SYMBOL = GENERATED.symbol
TOPIC = f"orderbook.50.{SYMBOL}"
NOW_NS = 5
ROWS = st.lists(
    st.tuples(
        st.integers(1, 10**7).map(lambda ticks: str(GENERATED.price(ticks))),
        st.integers(0, 10**7).map(lambda lots: str(GENERATED.qty(lots))),
    ),
    max_size=4,
)


def message(bids: list[tuple[str, str]], asks: list[tuple[str, str]], u: int, stamp: int) -> str:
    data = {"s": SYMBOL, "b": bids, "a": asks, "u": u, "seq": stamp + 1}
    whole = {"topic": TOPIC, "type": "delta", "ts": stamp, "data": data, "cts": stamp}
    return msgspec.json.encode(whole).decode()


def cut(text: str, grid: Grid) -> BookDelta | None:
    return BookText(SYMBOL, lambda: NOW_NS).cut(text, TOPIC_AT + len(TOPIC), grid)


def scanned(text: str, grid: Grid) -> BookDelta | None:
    return BookScan(SYMBOL, grid).delta(text, TOPIC_AT + len(TOPIC), NOW_NS)


def quickly(text: str, grid: Grid | None = None) -> BookDelta | None:
    """What both ways say; where the scan leaves more to a closer look, what the other one says."""
    if not text.isascii() or "\\" in text or topic_of(text) != TOPIC:
        return None
    by_cutting, by_scanning = cut(text, grid or Grid(GENERATED)), scanned(text, grid or Grid(GENERATED))
    assert by_scanning is None or by_scanning == by_cutting
    taken = BookText(SYMBOL, lambda: NOW_NS).delta(text, TOPIC_AT + len(TOPIC), grid or Grid(GENERATED))
    assert taken in (by_cutting, by_scanning)
    return by_cutting


def patiently(text: str) -> BookDelta | BookSnapshot | None:
    try:
        push = wire.decode(wire.Push, text, "public")
        if push.topic != TOPIC:
            return None
        rows = wire.decode(wire.BookRows, push.data, push.topic)
        return book_event(push, rows, Grid(GENERATED), NOW_NS) if rows.s == SYMBOL else None
    except VenueGarbled:
        return None


@given(bids=ROWS, asks=ROWS, u=st.integers(2, 10**17), stamp=st.integers(1, 10**17))
def test_what_the_venue_writes_is_read_at_once(
    bids: list[tuple[str, str]], asks: list[tuple[str, str]], u: int, stamp: int
) -> None:
    text = message(bids, asks, u, stamp)
    found = quickly(text)
    assert found is not None
    assert found == patiently(text) == scanned(text, Grid(GENERATED))


PLAIN = st.from_regex(r"[0-9]{0,12}(\.[0-9]{0,12})?", fullmatch=True)
STEPS = ("0.1", "0.01", "0.5", "0.025", "1", "10", "1E+1", "3", "1E-17")


@given(step=st.sampled_from(STEPS), lot=st.sampled_from(STEPS), price=PLAIN, size=PLAIN)
@example(step="1E-17", lot="1E-17", price="123456789012", size="1")
@example(step="1", lot="1", price="1", size="999999999999999999")
@example(step="0.1", lot="0.1", price="1", size="99999999999999999.9")
def test_plain_numbers_are_read_as_the_grid_says_or_left_alone(step: str, lot: str, price: str, size: str) -> None:
    instrument = msgspec.structs.replace(GENERATED, tick_size=Decimal(step), lot_size=Decimal(lot))
    text = message([(price, size)], [], 7, 8)
    found = scanned(text, Grid(instrument))
    if found is not None:
        grid = Grid(instrument)
        assert found.bids == ((grid.ticks(price, "p"), grid.lots(size, "q")),)
        assert found == cut(text, Grid(instrument))


@given(data=st.data(), bids=ROWS, asks=ROWS, u=st.integers(0, 12), stamp=st.integers(0, 12))
def test_whatever_is_changed_in_it_is_read_the_same_or_left_alone(
    data: st.DataObject, bids: list[tuple[str, str]], asks: list[tuple[str, str]], u: int, stamp: int
) -> None:
    text = message(bids, asks, u, stamp)
    for _ in range(data.draw(st.integers(1, 3))):
        at, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 6))
        put = data.draw(
            st.sampled_from(["", " ", '"', ",", "[", "]", "{", "}", "0", "7", "-", ".", "e", "\n", "é", "\\"])
        )
        text = text[:at] + put + text[at + length :]
    found = quickly(text)
    if found is not None:
        assert found == patiently(text)


NUMBERS = st.sampled_from(
    ["1", "60000.0", "60000.05", "1e3", "1E+3", "01", "001.0", "+1", "1.", ".5", "-0", "-1", " 1", "1 ", "1_0", "1\x1f",
     "1\x00", "1\n", "\\u0031", "\N{ARABIC-INDIC DIGIT ONE}", "\N{FULLWIDTH DIGIT ONE}", "0", "0.000", "", "NaN",
     "sNaN", "Infinity", "1e400", "9" * 18, "9" * 19, "9" * 60, "9" * 61, "0." + "0" * 30 + "1", "1.2.3", "0x10", "--1"]
)  # fmt: skip
WHOLE = st.sampled_from(
    [
        "2",
        "1",
        "0",
        "01",
        "-1",
        "+2",
        "2.0",
        "2e3",
        "9" * 18,
        "9" * 19,
        str(2**63),
        "",
        "null",
        '"2"',
        "1_0",
        " 2",
        "2 ",
    ]
)
AFTER = st.sampled_from(["", "", "", " ", "\n", "}", "{}", "x", "\x00"])
KEPT = Grid(GENERATED)
"""Of all examples: what a number once was says nothing of another one."""


@settings(max_examples=60)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=2), WHOLE, WHOLE, AFTER, st.integers(0, 8))
def test_however_a_number_is_written_it_is_read_the_same_or_left_alone(
    levels: list[tuple[str, str]], one: str, other: str, after: str, cut: int
) -> None:
    rows = ",".join(f'["{price}","{size}"]' for price, size in levels)
    text = (
        f'{{"topic":"{TOPIC}","type":"delta","ts":{other},"data":{{"s":"{SYMBOL}","b":[{rows}],"a":[],"u":{one},'
        f'"seq":{other}}},"cts":{one}}}{after}'
    )
    text = text[: len(text) - cut] if cut > 4 else text
    found = quickly(text, KEPT)
    if found is not None:
        assert found == patiently(text)


@given(st.text(max_size=40))
@example("")
@example('{"topic":"')
def test_a_message_without_a_topic_in_front_has_none(text: str) -> None:
    assert topic_of(text) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"u":7', '"u":1'),
        ('"u":7', '"u":07'),
        ('"u":7', '"u":7.0'),
        ('"u":7', '"u":-7'),
        ('"type":"delta"', '"type":"snapshot"'),
        ('"seq":9', '"seq":"9"'),
        ('"cts":8', '"cts":8,"cts":9'),
        (f'"s":"{SYMBOL}"', '"s":"ETHUSDT"'),
        ('"a":[]', '"a":[[]]'),
        ('["60000.0","0.003"]', '["60000.05","0.003"]'),
        ('["60000.0","0.003"]', '["60000.0","-1"]'),
        ('["60000.0","0.003"]', '["60000.0",0.003]'),
        ('["60000.0","0.003"]', '["60000.0"]'),
        ('["60000.0","0.003"]', '["60000.0","0.003","1"]'),
        ('["60000.0","0.003"]', '["60000.0","0.003"],'),
        ("}", "}}"),
    ],
)
def test_what_is_not_written_so_is_left_to_whoever_says_what_is_wrong(old: str, new: str) -> None:
    text = message([("60000.0", "0.003")], [], 7, 8)
    assert quickly(text) is not None
    assert old in text
    assert quickly(text.replace(old, new)) is None
