"""The page of benchmarks: what is promised and not met stands in it by name, and nothing invalid is passed over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.bench.edges import Measured, table, targets
from tests.bench.freeze import below
from tests.bench.orders import BARE, CCXT, PYBIT, REST, SLIPWAY, Cost
from tests.bench.overtaking import Overtaking
from tests.bench.page import PARTS, Told, main, outcome_of, page
from tests.bench.sockets import PICOWS, Taken
from tests.bench.sockets import SLIPWAY as OURS

GOOD = "freezes                                       200\nfreeze → none, p99        41.2 ms  < 100 ms  met\n"
SHORT = (
    f"order create, signed, CPU      1.46 x  ≤ 1.3 x  NOT met\nheavy   9.1 x  {below(99.0, 95.0, 'MB')}, 1.4 x short\n"
)
ODD = "it was met by a fault\nmet with nothing\n"


def test_it_counts_what_a_line_ends_with_and_nothing_else() -> None:
    found = outcome_of([Told("freeze", GOOD, 0), Told("edges", SHORT + ODD + "x  met, and its aim\n", 0)])
    assert found.met == 2
    assert found.unmet == [
        "edges: order create, signed, CPU 1.46 x ≤ 1.3 x NOT met",
        "edges: heavy 9.1 x < 95 MB NOT met, 1.4 x short",
    ]
    assert found.invalid == []


def test_a_part_that_failed_or_judged_nothing_is_invalid() -> None:
    found = outcome_of([Told("edges", GOOD, 1), Told("memory", ODD, 0), Told("engine", "", -9)])
    assert found.invalid == ["edges ended with code 1", "memory judged nothing", "engine ended with code -9"]


def test_the_page_has_its_date_what_is_not_met_and_every_part() -> None:
    text = page([Told("freeze", GOOD, 0), Told("edges", SHORT, 3)], datetime(2026, 12, 1, 7, 30, tzinfo=UTC), 0.4)
    assert "Last run: 2026-12-01 07:30 UTC" in text
    assert "Promises met: 1. Promises NOT met: 2." in text
    assert "- `edges: order create, signed, CPU 1.46 x ≤ 1.3 x NOT met`" in text
    assert "- INVALID: edges ended with code 3" in text
    assert text.count("```text") == 2
    assert "Parts that this run left out: breach, engine, month, linearity, memory, rollouts." in text
    assert "left out" not in page([Told(part, GOOD, 0) for part in PARTS], datetime(2026, 12, 1, tzinfo=UTC), 0.4)
    assert "freeze → none, p99        41.2 ms  < 100 ms  met" in text


@pytest.mark.parametrize(
    ("text", "code", "flags", "ends"),
    [
        (GOOD, 0, [], 0),
        (GOOD, 0, ["--strict"], 0),
        (SHORT, 0, [], 0),
        (SHORT, 0, ["--strict"], 1),
        (GOOD, 1, [], 1),
        ("", 0, [], 1),
    ],
)
def test_a_promise_that_is_not_met_fails_only_where_that_is_asked_and_an_invalid_run_always(
    text: str, code: int, flags: list[str], ends: int, tmp_path: Path
) -> None:
    ran: list[str] = []
    path = tmp_path / "bench.md"
    assert main(["--page", str(path), "--parts", "freeze,edges", *flags], _saying(ran, text, code)) == ends
    assert ran == ["freeze", "edges"], "one that fails keeps no other from running"
    assert path.read_text().startswith("# Benchmarks\n")


def _saying(ran: list[str], text: str, code: int) -> Callable[[str], Told]:
    def run(part: str) -> Told:
        ran.append(part)
        return Told(part, text, code)

    return run


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--parts", "freeze,speed"], _saying([], GOOD, 0))
    assert "--parts: 'speed' is not allowed; allowed: freeze, breach, edges" in capsys.readouterr().err


def test_what_is_promised_of_an_order_is_that_each_is_signed() -> None:
    clients = {SLIPWAY: 90.0, REST: 150.0, BARE: 100.0, CCXT: 400.0, PYBIT: 900.0}
    costs = [Cost(name, p50_us=value, p99_us=value, cpu_us=value) for name, value in clients.items()]
    taken = [Taken(OURS, 100, 1.0), Taken(PICOWS, 100, 1.0)]
    found = Measured(costs, taken, Overtaking(10, [1.0], [1], [1.0], [1.0], [1.0], 60.0))
    rows = {one.what: one for one in targets(found)}
    assert (
        rows["order create, signed, p50, against aiohttp"].value,
        rows["order create, signed, CPU, against aiohttp"].met,
    ) == ("1.50 x", False)
    assert "by the trade socket, against aiohttp: p50 0.90 x, CPU 0.90 x" in table(found)
    assert not [what for what in rows if "socket" in what and "order" in what]
