"""Messages that are not what they should be: the decoder names the field, and a bot that meets them lives."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.domain import events as ev
from bot.domain.intent import AmendOrder, CancelOrder, Intent, PlaceOrder
from bot.engine.engine import Engine
from bot.simulation import START_NS, run_wire
from bot.simulator.link import Link, LinkSocket
from bot.venues.bybit import decode
from tests.support import several
from tests.support.decoder_fuzz import Fuzz
from tests.support.fuzzed_answers import READS
from tests.support.invariants import Invariants
from tests.support.lanes import demo

CASES = 50_000
RANDOM_S = 30
S = 1_000_000_000
SYMBOLS = several.symbols(2)


def test_the_decoder_takes_or_names_whatever_it_is_given() -> None:
    fuzz = Fuzz(20_260_101)
    fuzz.run(CASES)
    _hold(fuzz, CASES)


def test_it_does_so_for_half_a_minute_of_cases_that_nobody_has_seen_before() -> None:
    seed = secrets.randbelow(2**32)
    print(f"the same again: python -m tests.support.decoder_fuzz --seed {seed} --seconds {RANDOM_S}")
    fuzz = Fuzz(seed)
    ran = fuzz.run(None, RANDOM_S)
    assert ran > CASES // 50, "a machine on which next to nothing is tried"
    _hold(fuzz, ran)


def test_a_case_that_is_neither_is_told_with_what_brings_it_about_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_rows: object) -> None:
        raise KeyError("of the adapter's own")

    monkeypatch.setattr(decode, "top_of_book", explode)
    with pytest.raises(AssertionError, match=r"seed 7, case (\d+), rest_orderbook: KeyError") as first:
        Fuzz(7).run(None, RANDOM_S)
    number = int(re.search(r"case (\d+)", str(first.value))[1])  # type: ignore[index]
    assert Fuzz(7).run(number) == number
    with pytest.raises(AssertionError) as again:
        Fuzz(7).run(number + 1)
    assert str(again.value) == str(first.value)


def test_every_answer_that_is_changed_is_taken_where_it_is_not() -> None:
    fuzz = Fuzz(1)
    taken = fuzz.whole()
    assert {name for name in taken if not name.startswith("stream_")} == {
        *READS, "trade_0", "trade_1", "batch_create", "batch_amend", "batch_cancel",
    }  # fmt: skip
    assert fuzz.outcomes("create") == ["Accepted", "Refused"]
    assert fuzz.outcomes("amend") == ["Accepted", "Accepted"]
    assert fuzz.outcomes("cancel") == ["Accepted", "Accepted"]  # one of them of an order that had ended already


def _hold(fuzz: Fuzz, cases: int) -> None:
    assert set(fuzz.seen) <= {"taken", "garbled", "refused"}, f"seed {fuzz.seed}: {fuzz.seen}"
    assert fuzz.seen["garbled"] > cases // 4
    assert fuzz.seen["taken"] > cases // 10
    assert fuzz.events > cases // 20


def _row(message: dict[str, Any], change: Callable[[list[list[str]]], object]) -> None:
    rows = [list(row) for row in message["data"]["b"]] or [["59000.0", "1.000"]]
    change(rows)
    message["data"]["b"] = rows


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a field is missing": (lambda m: m["data"].pop("u"), "u"),
    "a field has another name": (lambda m: m["data"].update(bids=m["data"].pop("b")), "b"),
    "a field has another type": (lambda m: m["data"].update(u=str(m["data"]["u"])), r"\$\.u"),
    "a size is negative": (lambda m: _row(m, lambda rows: rows[0].__setitem__(1, "-1.000")), "data.b"),
    "a price is off the tick": (lambda m: _row(m, lambda rows: rows[0].__setitem__(0, "59000.05")), "data.b"),
    "a price is no number": (lambda m: _row(m, lambda rows: rows[0].__setitem__(0, "high")), "data.b"),
    "a row has three columns": (lambda m: _row(m, lambda rows: rows[0].append("1")), r"\$\.b"),
    "a number is beyond all size": (lambda m: _row(m, lambda rows: rows[0].__setitem__(1, "1E+999999")), "data.b"),
    "it ends in the middle": (lambda m: m.update(cut=True), "malformed|truncated"),
    "it is huge": (lambda m: m.update(padding="x" * 300_000), "bytes"),
    "it has no topic": (lambda m: m.pop("topic"), "topic: missing"),
    "its topic was never asked for": (lambda m: m.update(topic=f"book.50.{SYMBOLS[1]}"), "topic: .*none that"),
    "its topic is of another type": (lambda m: m.update(topic=50), r"\$\.topic"),
    "its topic comes last": (lambda m: (m.update(topic=m.pop("topic")), m["data"].pop("u")), "u"),
    "it is of another symbol": (lambda m: m["data"].update(s="XRPUSDT"), "data.s"),
}


class Watching(Invariants):
    """The invariants; what was told of lost books, and in which symbol what was quoted, cancelled and out when."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.lost: list[ev.BookLost] = []
        self.downs: list[ev.StreamDown] = []
        self.quoted: list[PlaceOrder | AmendOrder] = []
        self.cancelled: list[CancelOrder] = []
        self.out: set[str] = set()
        """symbols with an order of ours between the 7th and the 8th second"""

    def __call__(self, event: ev.Event, intents: list[Intent], engine: Engine) -> None:
        super().__call__(event, intents, engine)
        if isinstance(event, ev.BookLost):
            self.lost.append(event)
        if isinstance(event, ev.StreamDown):
            self.downs.append(event)
        self.quoted += [intent for intent in intents if isinstance(intent, PlaceOrder | AmendOrder)]
        self.cancelled += [intent for intent in intents if isinstance(intent, CancelOrder)]
        if 7 * S < event.at_ns - START_NS < 8 * S:
            self.out |= {order.symbol for order in engine.live_orders()}


UNREADABLE: dict[str, str] = {
    "no JSON": "<html>502 Bad Gateway</html>",
    "no object": "[]",
    "an object that says nothing": "{}",
    "data without a name": '{"type":"delta","ts":1,"data":{"b":[],"a":[],"u":7,"seq":7}}',
    "huge": "x" * 300_000,
    "no text": "\x00\ufffd",
}


class Garbling(Link):
    """Changes what the venue sends of the second symbol's book between the 6th and the 8th second."""

    change: Callable[[dict[str, Any]], object] = staticmethod(lambda message: None)

    def push(self, socket: LinkSocket, text: str, not_before_ns: int) -> int:
        if f'"orderbook.50.{SYMBOLS[1]}","type"' in text:
            message = json.loads(text)
            if 6 <= message["ts"] / 1_000 - START_NS / S < 8:
                self.change(message)
                cut = message.pop("cut", False)
                text = json.dumps(message)
                text = text[: len(text) // 2] if cut else text
        return super().push(socket, text, not_before_ns)


@pytest.mark.parametrize("wrong", WRONG)
def test_one_symbol_whose_books_are_garbled_is_not_quoted_and_the_bot_goes_on(wrong: str, tmp_path: Path) -> None:
    change, field = WRONG[wrong]
    link = type("Garbled", (Garbling,), {"change": staticmethod(change)})
    more = several.instruments(2)[1:]
    watch = Watching(wrong)
    scenario = demo(77, 20, symbols=SYMBOLS, more_instruments=more, link=link, hysteresis_s=Decimal(1))
    outcome = run_wire(watch.beside(scenario), tmp_path, watch)
    watch.check_end(outcome)
    assert watch.lost
    assert {event.symbol for event in watch.lost} == {SYMBOLS[1]}
    for event in watch.lost:
        assert event.garbled
        assert re.search(f"garbled.*({field})", event.reason), event.reason
    assert {intent.symbol for intent in watch.cancelled if 6 * S < intent.at_ns - START_NS < 7 * S} == {SYMBOLS[1]}
    assert watch.out == {SYMBOLS[0]}, "nothing of ours stands where the book cannot be read, and the other is quoted"
    counted = outcome.engine.counts["mm_freeze_events_total", ("garbled_data", "market")]
    assert 1 <= counted <= 2, "one freeze, not one a message"
    meanwhile = {intent.symbol for intent in watch.quoted if 6.2 * S < intent.at_ns - START_NS < 8 * S}
    assert meanwhile == {SYMBOLS[0]}, "without a book it quotes nothing; the other symbol goes on"
    back_ns = min(i.at_ns - START_NS for i in watch.quoted if i.symbol == SYMBOLS[1] and i.at_ns - START_NS > 8 * S)
    assert back_ns >= 9 * S, "a fresh snapshot has come, and has been good for as long as a cause has to be gone"
    assert {intent.symbol for intent in watch.quoted if intent.at_ns - START_NS > 12 * S} == set(SYMBOLS)
    assert "uncaught_exception" not in (tmp_path / "bot.log").read_text()


@pytest.mark.parametrize("unreadable", UNREADABLE)
def test_a_message_that_names_no_symbol_freezes_all_of_them_and_keeps_the_connection(
    unreadable: str, tmp_path: Path
) -> None:
    class Wrecking(Garbling):
        def push(self, socket: LinkSocket, text: str, not_before_ns: int) -> int:
            given = super().push(socket, text, not_before_ns)
            if f'"orderbook.50.{SYMBOLS[1]}","type":"delta"' in text:
                at_s = json.loads(text)["ts"] / 1_000 - START_NS / S
                if 6 <= at_s < 8:
                    Link.push(self, socket, UNREADABLE[unreadable], not_before_ns)
            return given

    watch = Watching(unreadable)
    scenario = demo(
        77, 20, symbols=SYMBOLS, more_instruments=several.instruments(2)[1:], link=Wrecking, hysteresis_s=Decimal(1)
    )
    outcome = run_wire(watch.beside(scenario), tmp_path, watch)
    watch.check_end(outcome)
    assert {event.symbol for event in watch.lost} == set(SYMBOLS)
    assert all(event.garbled and event.reason.startswith("garbled: public: ") for event in watch.lost)
    assert {intent.symbol for intent in watch.cancelled if 6 * S < intent.at_ns - START_NS < 7 * S} == set(SYMBOLS)
    assert watch.out == set(), "whose message it was nobody knows: nothing of ours stands anywhere"
    assert not [one for one in watch.quoted if 6.2 * S < one.at_ns - START_NS < 8 * S]
    assert {one.symbol for one in watch.quoted if one.at_ns - START_NS > 9 * S} == set(SYMBOLS), "and all come back"
    assert watch.downs == [], "nothing is wrong with the connection"
    assert "uncaught_exception" not in (tmp_path / "bot.log").read_text()
