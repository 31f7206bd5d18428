"""A rehearsal from the outside: the same in both lanes, and what it refuses."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from bot.__main__ import main
from bot.journal import JournalReader
from tests.support.shadow_runs import refused, rows

pytestmark = pytest.mark.usefixtures("place_of_its_own")


def test_a_rehearsal_reports_the_same_in_both_lanes() -> None:
    flags = ("--span-s", "120", "--max-inv", "500", "--max-total", "2000", "--edge-threshold", "0.5")
    found = {}
    for lane in ("wire", "kernel"):
        assert main(["rehearse", *flags, "--lane", lane, "--report", f"{lane}.json"]) == 0
        found[lane] = json.loads(Path(f"{lane}.json").read_text(encoding="utf-8"))
    assert found["wire"]["orders"] == found["kernel"]["orders"]
    assert found["wire"]["pnl"] == found["kernel"]["pnl"]
    assert found["kernel"]["orders"]["placed"] > 0


def test_a_rehearsal_enters_orders_as_the_candidate_does() -> None:
    Path("rest.yaml").write_text("venue: {order_entry: rest}\n", encoding="utf-8")
    flags = ("--span-s", "60", "--max-inv", "500", "--max-total", "2000", "--edge-threshold", "0.5", "--lane", "wire")
    for name, settings in (("socket", ()), ("rest", ("--settings", "rest.yaml"))):
        assert main(["rehearse", *flags, *settings, "--state-dir", name, "--report", f"{name}.json"]) == 0
    responses = {}
    for name in ("socket", "rest"):
        with JournalReader(Path(name) / "journal.db") as reader:
            totals = reader.totals()
            responses[name] = sum(
                count for (metric, labels), count in totals.items()
                if metric == "mm_http_responses_total" and "order/" in labels
            )  # fmt: skip
            assert next(reader.rows("SELECT count(*) FROM orders"))[0] > 0
    assert responses["rest"] > responses["socket"]


def test_a_rehearsal_charges_what_the_candidate_assumes_and_leaves_whole_exports(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("s.yaml").write_text("strategy: {half_spread_bps: 2, order_notional_quote: 150}\n", encoding="utf-8")
    flags = ("--span-s", "150", "--max-inv", "500", "--max-total", "2000", "--edge-threshold", "0", "--settings",
             "s.yaml", "--fee-profile", "VIP0", "--lane", "wire", "--state-dir", "w", "--report", "r.json")  # fmt: skip
    assert main(["rehearse", *flags]) == 0
    found = json.loads(Path("r.json").read_text(encoding="utf-8"))
    fills = rows("w/fills.csv")
    assert len({fill["client_order_id"] for fill in fills}) == found["orders"]["filled"] > 0
    assert len(rows("w/markouts.csv")) == len(fills)
    notional = sum(Decimal(fill["price"]) * Decimal(fill["qty"]) for fill in fills)
    assert Decimal(found["pnl"]["fees"]) / notional == pytest.approx(Decimal("0.0001"), rel=Decimal("0.001"))
    capsys.readouterr()
    assert main(["replay", "w"]) == 0
    assert capsys.readouterr().out.startswith("the same, byte for byte")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--fill-rate", "0.5"), "--fill-rate: has no effect in a rehearsal"),
        (("--span-s", "0"), "--span-s: '0' is not allowed"),
        (("--symbols", "ETHUSDT"), "'ETHUSDT' is not allowed in a rehearsal"),
    ],
)
def test_what_a_rehearsal_cannot_do_is_refused(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert said in refused(capsys, "rehearse", *flags)
