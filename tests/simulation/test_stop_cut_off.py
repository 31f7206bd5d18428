"""The private stream is cut before it has confirmed a create: the whole bot stops all the same within the second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bot.domain import events as ev
from bot.domain.intent import Intent
from bot.domain.order import OWN_PREFIX
from bot.engine.engine import Engine
from bot.simulation import START_NS, run_wire
from bot.simulator.bybit_sockets import PrivateSession, Session
from bot.simulator.link import Kind, Link, LinkSocket
from tests.support.invariants import Invariants
from tests.support.lanes import demo

S = 1_000_000_000
CUT_S = 1


class Mute(Link):
    """The first private connection says nothing of orders and executions; it is cut in the first second."""

    def _session(self, kind: Kind, category: str, socket: LinkSocket, name: str) -> Session:
        session = super()._session(kind, category, socket, name)  # type: ignore[arg-type]
        if isinstance(session, PrivateSession) and self._timeline.now_ns() < START_NS + CUT_S * S:
            send = session.send
            session.send = lambda text: None if '"topic":"' in text else send(text)
        return session


class Timed(Invariants):
    """How long each cancel-all took by the metric, and how many orders were unconfirmed when the stream was lost."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.took_s: list[float] = []
        self.unconfirmed_at_cut = 0

    def __call__(self, event: ev.Event, intents: list[Intent], engine: Engine) -> None:
        super().__call__(event, intents, engine)
        name = "mm_cancel_all_duration_seconds"
        self.took_s += [value for metric, _, value in engine.drain_observations() if metric == name]
        if isinstance(event, ev.StreamDown):
            self.unconfirmed_at_cut += sum(not order.confirmed for order in engine.live_orders())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_stop_before_the_first_confirmation_is_proven_within_the_second(tmp_path: Path, seed: int) -> None:
    watch = Timed(f"mute {seed}")
    faults: dict[int, tuple[str, dict[str, object]]] = {CUT_S: ("disconnect", {"stream": "private"})}
    outcome = run_wire(watch.beside(demo(seed, 8, link=Mute, faults_at_s=faults)), tmp_path, watch)
    watch.check_end(outcome)
    assert not [order for order in outcome.account.open_orders.values() if order.link_id.startswith(OWN_PREFIX)]
    assert watch.unconfirmed_at_cut > 0
    assert watch.took_s
    assert max(watch.took_s) < 1.0, watch.took_s
    lines = [json.loads(line) for line in (tmp_path / "bot.log").read_text().splitlines()]
    first = next(line for line in lines if line["event"] == "cancel_all_done")
    assert (first["reason"], first["duration_ms"] < 1_000) == ("venue_unreachable", True)
