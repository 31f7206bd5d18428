"""The bot as a process on the simulated venue: real HTTP and WebSocket, real journal, real signals."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bot.journal import JournalReader
from bot.replaying import replay
from tests.support.bot_rig import (
    DEMO_SETTINGS,
    GUARD_TOKEN,
    LIMITS,
    OPERATOR_TOKEN,
    Bot,
    SimulatedVenue,
    refused_start,
    running_bot,
    simulated_venue,
    wait_for,
)
from tests.support.lapses import check_lapse

pytestmark = pytest.mark.integration

RSS_MB_MAX = 80.0


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running


def quotes_two_sides(venue: SimulatedVenue, bot: Bot) -> bool:
    return {order["side"] for order in venue.own_open(bot.account)} == {"buy", "sell"}


def stands_still(venue: SimulatedVenue, bot: Bot) -> bool:
    """Stopped, and nothing of ours at the venue: both quotes may also be gone because one trade filled them both."""
    return bot.state() not in ("INIT", "RUNNING") and not venue.own_open(bot.account)


def start_quoting(venue: SimulatedVenue, bot: Bot, epoch: int = 1) -> None:
    bot.renew(epoch)
    wait_for("two quotes at the venue", lambda: quotes_two_sides(venue, bot))


def settings_with(folder: Path, text: str) -> Path:
    path = folder / "candidate.yaml"
    path.write_text(DEMO_SETTINGS.read_text(encoding="utf-8") + text, encoding="utf-8")
    return path


def test_it_trades_two_sides_under_a_grant_and_everything_agrees_on_it(venue: SimulatedVenue, tmp_path: Path) -> None:
    with running_bot(venue, tmp_path) as bot:
        start_quoting(venue, bot)
        wait_for("a fill", lambda: venue.truth(bot.account)["executions_count"] > 0, deadline_s=90)
        shown = wait_for("the fill in the metrics", lambda: "mm_net_bps" in bot.metrics() and bot.metrics())
        assert shown['mm_crossing_orders_total{symbol="BTCUSDT"}'] == 0
        assert shown['mm_taker_fills_total{symbol="BTCUSDT"}'] == 0
        assert shown["mm_uncaught_exceptions_total"] == 0
        assert shown["mm_live_enable"] == 1
        assert shown["mm_maker_taker_ratio"] == 1
        assert shown['mm_quoting_seconds_total{sides="two",symbol="BTCUSDT"}'] > 0
        assert bot.http.get("/ready").json() == {
            "checks": {"exchange": True, "risk": True, "state": True},
            "status": "ok",
        }
        assert bot.rss_mb() < RSS_MB_MAX
        assert bot.stop() == 0
        truth = venue.truth(bot.account)
        assert truth["orders"] == []
        with JournalReader(bot.state_dir / "journal.db") as reader:
            fills = list(reader.rows("SELECT client_order_id, side, qty_lots, is_maker FROM fills"))
            orders = {row[0] for row in reader.rows("SELECT client_order_id FROM orders")}
            totals = reader.totals()
        assert len(fills) == truth["executions_count"]
        assert {fill[0] for fill in fills} <= orders
        assert all(fill[3] == 1 for fill in fills)
        position_lots = sum(lots if side == "buy" else -lots for _, side, lots, _ in fills)
        held = sum(float(position["qty"]) for position in truth["positions"])
        assert position_lots * 0.001 == pytest.approx(held)
        assert totals["mm_uncaught_exceptions_total", ""] == 0
        assert totals["mm_orders_filled_total", "symbol=BTCUSDT,side=buy"] == len(
            {client for client, side, _, _ in fills if side == "buy"}
        )
        for name in ("orders.jsonl", "last_snapshot_ts.txt", "fills.csv", "minute.csv", "daily_state.json"):
            assert (bot.state_dir / name).exists(), name
        assert len((bot.state_dir / "fills.csv").read_text().splitlines()) == len(fills) + 1


def test_without_a_grant_no_order_leaves(venue: SimulatedVenue, tmp_path: Path) -> None:
    with running_bot(venue, tmp_path) as bot:
        wait_for("the streams", lambda: bot.http.get("/ready").json()["checks"]["exchange"])
        time.sleep(1.0)  # nothing is to happen: there is no condition to wait for
        assert bot.state() == "INIT"
        assert venue.truth(bot.account)["orders"] == []
        (started,) = [line for line in bot.log_events() if line["event"] == "started"]
        assert (started["mode"], started["event_loop"]) == ("live", "uvloop")
        assert bot.metrics()['mm_orders_placed_total{side="buy",symbol="BTCUSDT"}'] == 0
        assert bot.stop() == 0


def test_a_lapsed_grant_freezes_at_its_end_and_a_higher_epoch_resumes(venue: SimulatedVenue, tmp_path: Path) -> None:
    settings = tmp_path / "candidate.yaml"
    settings.write_text(DEMO_SETTINGS.read_text().replace("hysteresis_s: 30", "hysteresis_s: 1"))
    with running_bot(venue, tmp_path, settings=settings) as bot:
        start_quoting(venue, bot)
        bot.lapse()
        wait_for("a stop and no own order at the venue", lambda: stands_still(venue, bot), deadline_s=20)
        check_lapse(bot.state_dir / "journal.db", 1)
        status = bot.status()
        assert status["state"] == "FROZEN"
        assert (status["stop"]["reason"], status["stop"]["class"]) == ("grant_expired", "fault")
        ready = bot.http.get("/ready")
        assert ready.status_code == 503
        assert ready.json()["checks"]["risk"] is False
        bot.renew(2)
        standing = wait_for(
            "two quotes again", lambda: quotes_two_sides(venue, bot) and venue.own_open(bot.account), deadline_s=30
        )
        assert {order["client_order_id"][: len("slwq-2-")] for order in standing} == {"slwq-2-"}
        assert bot.stop() == 0


def test_a_revoke_is_a_planned_stop(venue: SimulatedVenue, tmp_path: Path) -> None:
    with running_bot(venue, tmp_path) as bot:
        start_quoting(venue, bot)
        bot.lapse()
        assert bot.grant(1, ttl_s=0).json()["expires_in_s"] == 0
        wait_for("a stop and no own order at the venue", lambda: stands_still(venue, bot), deadline_s=10)
        assert bot.status()["stop"]["class"] == "planned"
        assert bot.metrics()['mm_freeze_events_total{class="fault",reason="grant_expired"}'] == 0


def test_only_the_right_grant_is_taken(venue: SimulatedVenue, tmp_path: Path) -> None:
    with running_bot(venue, tmp_path) as bot:
        assert bot.grant(5, token="wrong").status_code == 401
        assert bot.grant(5, token=OPERATOR_TOKEN).status_code == 401
        assert bot.grant(5).json()["epoch"] == 5
        lower = bot.grant(4)
        assert (lower.status_code, lower.json()["epoch_held"]) == (409, 5)
        assert bot.grant(6, account="another").status_code == 409
        headers = {"Authorization": f"Bearer {GUARD_TOKEN}"}
        good = {"account": bot.account, "epoch": 6, "limits": LIMITS, "ttl_s": 5.0}
        for field, wrong in [
            ("epoch", {**good, "epoch": 0}),
            ("ttl_s", {**good, "ttl_s": 3600}),
            ("limits.total_max_quote", {**good, "limits": {**LIMITS, "total_max_quote": "NaN"}}),
            ("limits", {key: value for key, value in good.items() if key != "limits"}),
            ("extra", {**good, "extra": 1}),
        ]:
            answer = bot.http.post("/grant", json=wrong, headers=headers)
            assert answer.status_code == 422, wrong
            assert field in answer.json()["error"]
        assert bot.status()["epoch"] == 5
        operator = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
        assert bot.http.post("/api/ui/freeze", json={"reason": "x"}).status_code == 401
        assert bot.http.post("/api/ui/freeze", json={}, headers=operator).status_code == 422


def test_wrong_tokens_are_throttled_and_the_right_one_never_is(venue: SimulatedVenue, tmp_path: Path) -> None:
    with running_bot(venue, tmp_path) as bot:
        answers = [bot.grant(1, token="wrong").status_code for _ in range(15)]
        assert answers[:10] == [401] * 10
        assert set(answers[10:]) == {429}
        assert bot.grant(1).status_code == 200


def test_an_operators_calls_stop_and_are_journaled_with_who_and_why(venue: SimulatedVenue, tmp_path: Path) -> None:
    with running_bot(venue, tmp_path) as bot:
        start_quoting(venue, bot)
        assert bot.order("hold", "looks odd").json()["state"] == "HELD"
        wait_for("no own order at the venue", lambda: not venue.own_open(bot.account), deadline_s=10)
        assert bot.order("shutdown", "enough").status_code == 200
        assert bot.process.wait(60) == 0
        with JournalReader(bot.state_dir / "journal.db") as reader:
            bodies = [entry.body for entry in reader.entries(kind="StopRequested")]
        assert len(bodies) == 1
        assert "looks odd" in bodies[0]


def test_sigkill_leaves_a_readable_journal_and_recovery_needs_a_higher_epoch(
    venue: SimulatedVenue, tmp_path: Path
) -> None:
    account = venue.account()
    with running_bot(venue, tmp_path, account=account) as bot:
        start_quoting(venue, bot, epoch=3)
        placed = bot.metrics()['mm_orders_placed_total{side="buy",symbol="BTCUSDT"}']
        assert bot.stop(signal.SIGKILL) == -signal.SIGKILL
        with JournalReader(bot.state_dir / "journal.db") as reader:
            totals = reader.totals()
            assert reader.meta()["account"] == account["account"]
            orders = {row[0] for row in reader.rows("SELECT client_order_id FROM orders")}
        assert totals["mm_orders_placed_total", "symbol=BTCUSDT,side=buy"] >= placed
        standing = venue.own_open(account["account"])
        assert standing
        assert {order["client_order_id"] for order in standing} <= orders
    code, said = refused_start(venue, account, tmp_path)
    assert code == 2
    assert "a journal is there already; --recover continues it" in said.splitlines()[-1]
    with running_bot(venue, tmp_path, account=account, extra=("--recover",)) as bot:
        wait_for("what the dead bot left is cancelled", lambda: not venue.own_open(account["account"]))
        assert bot.grant(3).status_code == 409
        start_quoting(venue, bot, epoch=4)
        assert bot.stop() == 0


def test_a_bot_that_is_gone_has_its_orders_cancelled_by_the_venue_itself(venue: SimulatedVenue, tmp_path: Path) -> None:
    settings = tmp_path / "candidate.yaml"
    window = "venue:\n  disconnect_cancel_s: 8\n"
    settings.write_text(DEMO_SETTINGS.read_text(encoding="utf-8").replace("venue:\n", window), encoding="utf-8")
    with running_bot(venue, tmp_path, settings=settings) as bot:
        start_quoting(venue, bot)
        bot.stop(signal.SIGKILL)
        assert venue.own_open(bot.account)
        wait_for("nobody's help", lambda: not venue.own_open(bot.account), deadline_s=20)


def test_a_second_bot_never_shares_a_state_folder(venue: SimulatedVenue, tmp_path: Path) -> None:
    with running_bot(venue, tmp_path) as bot:
        code, said = refused_start(venue, venue.account(), tmp_path, extra=("--recover",))
        assert code == 2
        assert said.count("\n") == 1
        assert f"in use by another bot (process {bot.process.pid})" in said


def test_a_damaged_journal_stops_the_start_in_one_line_and_is_left_as_it_is(
    venue: SimulatedVenue, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    journal = tmp_path / "run" / "journal.db"
    journal.write_bytes(b"garbage" * 1000)
    code, said = refused_start(venue, venue.account(), tmp_path, extra=("--recover",))
    assert code == 2
    assert said.splitlines()[-1].startswith(f"mm-bot: {journal}: damaged journal")
    assert journal.read_bytes() == b"garbage" * 1000


def test_a_disk_that_runs_full_stops_quoting_before_it_stops_writing(venue: SimulatedVenue, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, "journal: {disk_reserve_mb: 1000000000}\n")
    with running_bot(venue, tmp_path, settings=settings) as bot:
        bot.renew(1)
        wait_for("the stop", lambda: bot.state() == "HELD")
        assert "disk_full" in bot.status()["stop"]["detail"]
        assert venue.own_open(bot.account) == []
        assert bot.stop() == 0
        with JournalReader(bot.state_dir / "journal.db") as reader:
            assert "disk_full" in next(reader.entries(kind="StopRequested")).body


def test_no_secret_is_written_anywhere(venue: SimulatedVenue, tmp_path: Path) -> None:
    account = venue.account()
    with running_bot(venue, tmp_path, account=account) as bot:
        start_quoting(venue, bot)
        assert bot.stop() == 0
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for secret in (account["api_secret"], account["api_key"], GUARD_TOKEN, OPERATOR_TOKEN):
        assert not any(secret.encode() in content for content in written)


def test_logs_are_json_lines_with_sorted_keys(venue: SimulatedVenue, tmp_path: Path) -> None:
    with running_bot(venue, tmp_path) as bot:
        assert bot.stop() == 0
        for record in bot.log_events():
            assert list(record) == sorted(record)
            assert {"ts_utc", "lvl", "name", "component", "event"} <= set(record)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--max-inv", "-1"), "flag --max-inv: execution.inventory_max_quote: '-1' is not allowed"),
        (("--no-such-flag",), "'--no-such-flag' is not understood"),
        (("--settings", "none.yaml"), "none.yaml: cannot be read"),
        (("--exchange", "okx"), "exchange 'okx' is not certified for mode live; allowed there: bybit"),
        (("--testnet",), "--testnet and --live contradict each other"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    venue: SimulatedVenue, tmp_path: Path, extra: tuple[str, ...], said: str
) -> None:
    code, stderr = refused_start(venue, venue.account(), tmp_path, extra=extra)
    assert code == 2
    assert stderr.count("\n") == 1
    assert said in stderr
    assert not (tmp_path / "run").exists()


def test_two_people_release_a_hold_and_the_journal_replays_the_same(venue: SimulatedVenue, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, "journal:\n  market_data: true\n")
    with running_bot(venue, tmp_path, settings=settings) as bot:
        start_quoting(venue, bot)
        bot.order("hold", "somebody looks").raise_for_status()
        wait_for("HELD", lambda: bot.state() == "HELD" and not venue.own_open(bot.account))
        asked = bot.release("resume-request", "ada", stop="operator_hold", reason="looked")
        assert asked.status_code == 202, asked.text
        number = asked.json()["request_id"]
        assert [one["request_id"] for one in bot.status()["releases"]] == [number]
        assert bot.release("resume-confirm", "ada", request_id=number).status_code == 409
        assert bot.state() == "HELD"

        def confirmed() -> httpx.Response | None:
            answer = bot.release("resume-confirm", "grace", request_id=number, reason="so did I")
            return answer if answer.is_success else None

        assert wait_for("the release", confirmed).json()["released"] == ["operator_hold"]
        wait_for("two quotes again", lambda: quotes_two_sides(venue, bot))
        assert bot.stop() == 0
        text = (bot.state_dir / "bot.log").read_text()
        assert [token for token in (OPERATOR_TOKEN, GUARD_TOKEN) if token in text] == []
        with JournalReader(bot.state_dir / "journal.db") as journal:
            (told,) = journal.entries(kind="ReleaseAsked")
            words = [row.body for row in journal.entries(kind="ReleaseConfirmed")]
        assert "looked" in str(told.body)
        assert any("grace" in str(body) for body in words)
    assert replay(bot.state_dir / "journal.db").difference == ""
