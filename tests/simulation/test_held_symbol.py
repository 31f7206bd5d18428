"""One symbol's filters cannot be read at the start: it is held alone, and joins the others once they can."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.domain import events as ev
from bot.domain.intent import AmendOrder, Intent, PlaceOrder
from bot.engine.engine import Engine
from bot.simulation import START_NS, run_wire
from bot.simulator.link import Link
from bot.venues.transport import HttpAnswer
from tests.support import several
from tests.support.invariants import Invariants
from tests.support.lanes import demo

S = 1_000_000_000
SYMBOLS = several.symbols(2)
READ_FROM_S = 8


class Unread(Link):
    """Answers no question about the second symbol's filters before the 8th second."""

    def begin(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> asyncio.Future[HttpAnswer]:
        asked = "/v5/market/instruments-info" in url and SYMBOLS[1] in url
        if asked and self._timeline.now_ns() < START_NS + READ_FROM_S * S:
            refused: asyncio.Future[HttpAnswer] = self._timeline.create_future()
            refused.set_result(HttpAnswer(503, {}, b""))
            return refused
        return super().begin(method, url, headers, body, timeout_s)


class Watching(Invariants):
    """What was sent, and every view there was."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.sent: list[PlaceOrder | AmendOrder] = []
        self.views: set[str] = set()

    def __call__(self, event: ev.Event, intents: list[Intent], engine: Engine) -> None:
        super().__call__(event, intents, engine)
        self.sent += [intent for intent in intents if isinstance(intent, PlaceOrder | AmendOrder)]
        self.views.add(engine.view.value)


@pytest.mark.parametrize("changes", [{}, {"require_fee_resolution": True}], ids=["plain", "fees"])
def test_the_others_quote_and_it_joins_them_once_its_filters_are_read(tmp_path: Path, changes: dict[str, Any]) -> None:
    watch = Watching("held")
    if changes:
        changes |= {"fee_maker_bps": Decimal(2), "fee_taker_bps": Decimal("5.5"), "rebate_maker_bps": Decimal(0)}
    more = several.instruments(2)[1:]
    scenario = demo(78, 24, symbols=SYMBOLS, more_instruments=more, link=Unread, **changes)
    outcome = run_wire(watch.beside(scenario), tmp_path, watch)
    watch.check_end(outcome)
    assert outcome.exit_code == 0
    early = {intent.symbol for intent in watch.sent if intent.at_ns < START_NS + READ_FROM_S * S}
    late = {intent.symbol for intent in watch.sent if intent.at_ns > START_NS + 16 * S}
    assert (early, late) == ({SYMBOLS[0]}, set(SYMBOLS))
    assert watch.views == {"INIT", "RUNNING", "SHUTDOWN"}, "nobody was stopped for it"
    log = [json.loads(line) for line in (tmp_path / "bot.log").read_text().splitlines()]
    (held,) = [line for line in log if line["event"] == "symbol_held"]
    assert (held["symbol"], held["lvl"]) == (SYMBOLS[1], "WARNING")
    assert "503" in held["detail"]
    assert [line["symbol"] for line in log if line["event"] == "symbol_released"] == [SYMBOLS[1]]
