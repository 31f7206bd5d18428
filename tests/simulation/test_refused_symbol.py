"""The venue refuses to tell of one symbol's market: that one is frozen by its name, and the others go on."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from bot.domain import events as ev
from bot.domain.intent import AmendOrder, Intent, PlaceOrder
from bot.engine.engine import Engine
from bot.simulation import START_NS, run_wire
from bot.simulator.bybit_sockets import PublicSession, Session
from bot.simulator.link import Kind, Link, LinkSocket
from tests.support import several
from tests.support.invariants import Invariants
from tests.support.lanes import demo

S = 1_000_000_000
SYMBOLS = several.symbols(2)
TAKEN_FROM_S = 15
ASKED_AGAIN_S = 20
"""With every ping."""


class Refusing(Link):
    """Takes no subscription to the second symbol before the 15th second."""

    def _session(self, kind: Kind, category: str, socket: LinkSocket, name: str) -> Session:
        session = super()._session(kind, category, socket, name)  # type: ignore[arg-type]
        if isinstance(session, PublicSession):
            known = session._is_topic
            session._is_topic = lambda topic: known(topic) and (SYMBOLS[1] not in topic or self._takes())
        return session

    def _takes(self) -> bool:
        return self._timeline.now_ns() >= START_NS + TAKEN_FROM_S * S


class RefusingLater(Refusing):
    """The same from the 8th second on, where the connection is a new one."""

    def _takes(self) -> bool:
        return super()._takes() or self._timeline.now_ns() < START_NS + 8 * S


class Watching(Invariants):
    """When what was sent, and every view there was."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.sent: list[PlaceOrder | AmendOrder] = []
        self.views: set[str] = set()
        self.downs: list[ev.StreamDown] = []

    def __call__(self, event: ev.Event, intents: list[Intent], engine: Engine) -> None:
        super().__call__(event, intents, engine)
        self.sent += [intent for intent in intents if isinstance(intent, PlaceOrder | AmendOrder)]
        self.views.add(engine.view.value)
        if isinstance(event, ev.StreamDown):
            self.downs.append(event)

    def quoted(self, from_s: float, until_s: float) -> set[str]:
        return {one.symbol for one in self.sent if START_NS + from_s * S <= one.at_ns < START_NS + until_s * S}


def told(folder: Path, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (folder / "bot.log").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def test_the_others_quote_from_the_start_and_it_joins_them_once_it_is_told_of(tmp_path: Path) -> None:
    watch = Watching("refused")
    more = several.instruments(2)[1:]
    scenario = demo(79, 40, symbols=SYMBOLS, more_instruments=more, link=Refusing, hysteresis_s=Decimal(4))
    outcome = run_wire(watch.beside(scenario), tmp_path, watch)
    watch.check_end(outcome)
    assert outcome.exit_code == 0
    assert watch.downs == [], "the connection stays"
    assert watch.quoted(0, TAKEN_FROM_S) == {SYMBOLS[0]}, "it waits for no other"
    assert watch.quoted(TAKEN_FROM_S, ASKED_AGAIN_S + 4) == {SYMBOLS[0]}
    assert watch.quoted(ASKED_AGAIN_S + 4, 40) == set(SYMBOLS)
    assert watch.views == {"INIT", "RUNNING", "SHUTDOWN"}, "nobody was stopped for it"
    (frozen,) = told(tmp_path, "symbol_frozen")
    assert (frozen["symbol"], frozen["lvl"]) == (SYMBOLS[1], "WARNING")
    assert "refused: error:handler not found" in str(frozen["detail"])
    assert [line["symbol"] for line in told(tmp_path, "symbol_released")] == [SYMBOLS[1]]


def test_the_others_go_on_where_it_is_refused_after_a_connection_was_lost(tmp_path: Path) -> None:
    watch = Watching("refused later")
    more = several.instruments(2)[1:]
    faults: dict[int, tuple[str, dict[str, object]]] = {9: ("disconnect", {"stream": "public"})}
    scenario = demo(
        80, 45, symbols=SYMBOLS, more_instruments=more, link=RefusingLater, faults_at_s=faults, hysteresis_s=Decimal(4)
    )
    outcome = run_wire(watch.beside(scenario), tmp_path, watch)
    watch.check_end(outcome)
    assert outcome.exit_code == 0
    assert len(watch.downs) == 1, "the one that was lost"
    assert watch.quoted(0, 9) == set(SYMBOLS)
    assert watch.quoted(15, 28) == {SYMBOLS[0]}
    assert watch.quoted(29, 45) == set(SYMBOLS)
    (frozen,) = told(tmp_path, "symbol_frozen")
    assert frozen["symbol"] == SYMBOLS[1]
