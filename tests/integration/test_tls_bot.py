"""The bot as a process whose every way to the venue is TLS, by the certificate of an authority that the user named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bot.journal import JournalReader
from bot.venues.bybit.hosts import GATEWAY, OVERRIDES
from tests.support.bot_rig import (
    PATIENCE,
    ROOT,
    Bot,
    SimulatedVenue,
    bot_environment,
    running_bot,
    simulated_venue,
    wait_for,
)
from tests.support.tls import Authority, TlsFront, tls_front

pytestmark = pytest.mark.integration

LOOPS = {"uvloop": "bot", "asyncio": "tests.support.asyncio_bot"}
STREAMS = ("public", "private", "trade")
EVERY = {*STREAMS, "rest"}
AMENDS = ("/v5/order/amend", "/v5/order/amend-batch")
REFUSALS = ("unable to get local issuer certificate", "certificate is not valid for 'localhost'", "has expired")


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def front(venue: SimulatedVenue, authority: Authority) -> Iterator[TlsFront]:
    with tls_front(authority.server(), port_of(venue)) as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Of the short plan; it resumes sooner and amends more often, so that it is not waited for."""
    path = tmp_path / "candidate.yaml"
    text = (ROOT / "tests" / "support" / "bot.yaml").read_text(encoding="utf-8")
    for was, becomes in (("hysteresis_s: 3", "hysteresis_s: 1"), ("tolerance_bps: 1", "tolerance_bps: 0.1")):
        assert was in text
        text = text.replace(was, becomes)
    path.write_text(text, encoding="utf-8")
    return path


def port_of(venue: SimulatedVenue) -> int:
    return int(str(venue.ready["rest_url"]).rpartition(":")[2])


def by_gateway(front: TlsFront, settings: Path, authority: Authority) -> dict[str, str]:
    """As a user whose way to the venue leads through a gateway of his: the same host for all, named in the settings."""
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("venue:\n", f"venue:\n  gateway: localhost:{front.port}\n"), encoding="utf-8")
    addresses = dict.fromkeys(OVERRIDES, "")
    return {**addresses, GATEWAY: f"https://localhost:{front.port}", "SSL_CERT_FILE": str(authority.file)}


def through(front: TlsFront, venue: SimulatedVenue, authority: Authority) -> dict[str, str]:
    """What leads a process to the venue by that front, and whom it believes."""
    plain, host = f"://127.0.0.1:{port_of(venue)}", f"s://localhost:{front.port}"
    own = bot_environment(venue, {"api_key": "", "api_secret": "", "account": ""})
    ways = {name: value.replace(plain, host) for name, value in own.items() if name.startswith("MM_VENUE_")}
    assert len(ways) == len(EVERY)
    return {**ways, "SSL_CERT_FILE": str(authority.file)}


def quotes_two_sides(venue: SimulatedVenue, bot: Bot) -> bool:
    return {order["side"] for order in venue.own_open(bot.account)} == {"buy", "sell"}


def await_two_quotes(venue: SimulatedVenue, bot: Bot) -> None:
    wait_for("two quotes at the venue", lambda: quotes_two_sides(venue, bot), deadline_s=30)


def await_amend(venue: SimulatedVenue, bot: Bot) -> None:
    """Until an order that stood has another price."""
    seen: dict[str, str] = {}

    def amended() -> bool:
        standing = {str(one["client_order_id"]): str(one["price"]) for one in venue.own_open(bot.account)}
        changed = any(seen.get(name, price) != price for name, price in standing.items())
        seen.update(standing)
        return changed

    wait_for("an amend", amended, deadline_s=60, every_s=0.02)


def by_rest(shown: Mapping[str, float]) -> float:
    return sum(shown.get(f'mm_http_responses_total{{endpoint="{path}",status="200"}}', 0) for path in AMENDS)


def check_what_the_journal_knows(venue: SimulatedVenue, bot: Bot) -> None:
    truth = venue.truth(bot.account)
    assert truth["orders"] == []
    with JournalReader(bot.state_dir / "journal.db") as reader:
        fills = list(reader.rows("SELECT client_order_id, side, qty_lots FROM fills"))
        orders = {row[0] for row in reader.rows("SELECT client_order_id FROM orders")}
    assert len(fills) == truth["executions_count"] > 0
    assert {fill[0] for fill in fills} <= orders


@pytest.mark.parametrize("loop", LOOPS)
def test_it_trades_over_tls_alone_and_outlives_every_cut(
    loop: str, venue: SimulatedVenue, front: TlsFront, authority: Authority, settings: Path, tmp_path: Path
) -> None:
    environment = by_gateway(front, settings, authority)
    with running_bot(venue, tmp_path, settings=settings, environment=environment, module=LOOPS[loop]) as bot:
        (started,) = [line for line in bot.log_events() if line["event"] == "started"]
        assert started["event_loop"].startswith(loop)
        bot.renew(1)
        await_two_quotes(venue, bot)
        assert set(front.opened) == EVERY
        await_amend(venue, bot)
        assert by_rest(bot.metrics()) == 0, "amends go by the socket"
        for kind in STREAMS:
            before = front.opened[kind]
            assert front.cut(kind) == 1
            wait_for(f"{kind} is opened again", partial(opened_again, front, kind, before))
            await_two_quotes(venue, bot)
        cut_a_request(front)
        await_two_quotes(venue, bot)
        await_amend(venue, bot)
        wait_for("a fill", lambda: venue.truth(bot.account)["executions_count"] > 0, deadline_s=90)
        wait_for("the fill in the metrics", lambda: "mm_net_bps" in bot.metrics())
        assert bot.metrics()["mm_uncaught_exceptions_total"] == 0
        assert bot.stop() == 0
        check_what_the_journal_knows(venue, bot)
        assert set(front.names) == {"localhost"}
        assert set(front.versions) == {"TLSv1.3"}


def opened_again(front: TlsFront, kind: str, before: int) -> bool:
    return front.opened[kind] > before


def cut_a_request(front: TlsFront) -> None:
    """While it is on its way."""
    front.deafen("rest")
    wait_for("a request", lambda: front.withholds("rest"), deadline_s=30)
    assert front.cut("rest") >= 1
    front.undeafen("rest")


def test_a_venue_that_reads_nothing_by_the_trade_socket_is_quoted_at_by_rest_until_it_does(
    venue: SimulatedVenue, front: TlsFront, authority: Authority, settings: Path, tmp_path: Path
) -> None:
    environment = through(front, venue, authority)
    with running_bot(venue, tmp_path, settings=settings, environment=environment) as bot:
        bot.renew(1)
        await_two_quotes(venue, bot)
        assert front.deafen("trade") == 1
        wait_for("amends by REST", lambda: by_rest(bot.metrics()) > 1, deadline_s=60)
        wait_for("another trade socket", lambda: front.opened["trade"] > 1, deadline_s=30)
        front.undeafen("trade")
        wait_for("an answer by it", lambda: by_socket(bot), deadline_s=60)
        await_two_quotes(venue, bot)
        assert bot.metrics()["mm_uncaught_exceptions_total"] == 0
        assert bot.stop() == 0
        assert venue.own_open(bot.account) == []


def by_socket(bot: Bot) -> bool:
    """Whether orders go by the trade socket: what REST has answered stays the same while orders are acknowledged."""
    first = bot.metrics()
    wait_for("an acknowledgement", lambda: acknowledged(bot.metrics()) > acknowledged(first), deadline_s=60)
    return by_rest(bot.metrics()) == by_rest(first)


def acknowledged(shown: Mapping[str, float]) -> float:
    return shown['mm_order_latency_ms_count{symbol="BTCUSDT"}']


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_is_told_to_who_shows_no_certificate_of_the_venue_and_all_is_well_once_it_does(
    loop: str, venue: SimulatedVenue, authority: Authority, settings: Path, tmp_path: Path
) -> None:
    wrong = (
        Authority(tmp_path, "another").server(),
        authority.server(["venue.example"]),
        authority.server(expired=True),
    )
    with tls_front(wrong[0], port_of(venue)) as front:
        environment = through(front, venue, authority)
        with running_bot(venue, tmp_path, settings=settings, environment=environment, module=LOOPS[loop]) as bot:
            bot.renew(1)
            for context, why in zip(wrong, REFUSALS, strict=True):
                front.use(context)
                (said, *_) = wait_for(f"that it {why}", partial(refusals, bot, why))
                assert "\n" not in said
                assert f"the certificate of localhost:{front.port} is refused" in said
                ready = bot.http.get("/ready")
                assert (ready.status_code, ready.json()["checks"]["exchange"]) == (503, False)
            assert bytes(front.heard) == b""
            assert not front.opened
            front.use(authority.server())
            await_two_quotes(venue, bot)
            assert bot.stop() == 0
            assert venue.own_open(bot.account) == []


def refusals(bot: Bot, why: str) -> list[str]:
    return [line["message"] for line in bot.log_events() if why in line.get("message", "")]


def test_a_run_that_was_never_let_in_ends_as_one_that_could_not_reach_its_venue(
    venue: SimulatedVenue, authority: Authority, settings: Path, tmp_path: Path
) -> None:
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("stop:\n", "stop:\n  shutdown_deadline_s: 2\n"), encoding="utf-8")
    with tls_front(authority.server(expired=True), port_of(venue)) as front:
        environment = through(front, venue, authority)
        with running_bot(venue, tmp_path, settings=settings, environment=environment) as bot:
            wait_for("a refusal", lambda: refusals(bot, "has expired"))
            assert bot.stop() == 1
            assert "could not be proven" in bot.log_events()[-1]["reason"]
        assert bytes(front.heard) == b""


def switched(venue: SimulatedVenue, account: dict[str, str], environment: dict[str, str], folder: Path) -> Any:
    """Exit code, report and what was said of a kill switch that only looks."""
    report = folder / "kill_switch.json"
    done = subprocess.run(
        [sys.executable, "-m", "bot", "kill-switch", "--late-s", "2", "--deadline-s", "2", "--report", str(report)],
        cwd=ROOT, env={"PATH": "", **bot_environment(venue, account), **environment},
        capture_output=True, text=True, timeout=30 * PATIENCE, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(report.read_text()), done.stderr


def test_the_kill_switch_believes_whom_the_bot_believes_and_nobody_else(
    venue: SimulatedVenue, authority: Authority, front: TlsFront, tmp_path: Path
) -> None:
    account, environment = venue.account(), through(front, venue, authority)
    code, report, said = switched(venue, account, environment, tmp_path)
    assert code == 0, (report, said)
    assert front.opened["rest"] >= 1
    heard = len(front.heard)
    front.use(authority.server(expired=True))
    code, report, said = switched(venue, account, environment, tmp_path)
    assert code == 1, (report, said)
    assert "certificate has expired" in said + json.dumps(report)
    assert len(front.heard) == heard
