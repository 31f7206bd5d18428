"""Keys in AWS Secrets Manager, as moto serves it: the command, the bot that reads them, and a rotation under load."""

from __future__ import annotations

import base64
import itertools
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from bot.journal import JournalReader
from bot.runtime.secret_backends import ReaderSecrets
from bot.runtime.secrets import SecretMissing, SecretsUnreadable
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.hosts import BybitHosts
from bot.venues.port import VenueError, VenueRefused
from tests.support.bot_rig import (
    DEMO_SETTINGS,
    ROOT,
    Bot,
    SimulatedVenue,
    bot_environment,
    refused_start,
    running_bot,
    simulated_venue,
    wait_for,
)
from tests.support.cloud import Cloud, cloud
from tests.support.planted import files_that_hold, text_holds

pytestmark = pytest.mark.integration

RSS_MB_MAX = 95.0
SYMBOLS = ("BTCUSDT", "ETHUSDT")
KEY, SECRET = "1234567890planted0cdef", "planted-secret-0123456789abcdefgh"


@pytest.fixture(scope="module")
def aws() -> Iterator[Cloud]:
    with cloud() as running:
        yield running


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedVenue]:
    with simulated_venue(tmp_path_factory.mktemp("venue"), options=("--symbols", ",".join(SYMBOLS))) as running:
        yield running


def asking_often(folder: Path) -> Path:
    path = folder / "candidate.yaml"
    text = DEMO_SETTINGS.read_text(encoding="utf-8")
    path.write_text(text.replace("receive_window_ms: 2000", "receive_window_ms: 2000\n  secret_poll_s: 1"))
    return path


def in_the_cloud(aws: Cloud) -> dict[str, str]:
    """A bot's environment: no key in it."""
    return {**aws.environment, "BYBIT_API_KEY": "", "BYBIT_API_SECRET": ""}


def test_a_pair_is_saved_half_by_half_and_shown_masked_only(aws: Cloud) -> None:
    missing = aws.secrets("whoami", environment={"EXCHANGE_ENV": "testnet"})
    assert (missing.code, missing.document) == (
        1,
        {
            "action": "whoami",
            "backend": "aws",
            "exchange_env": "testnet",
            "secret_env": "testnet",
            "status": "missing: mm-bot/testnet/bybit is not saved",
        },
    )
    half = aws.secrets("save", "--env", "testnet", "--key-type", "api_key", stdin=KEY + "\n")
    assert (half.code, half.document["whole"]) == (0, False)
    named = aws.secrets("fetch", "--env", "testnet")
    assert (named.code, named.error) == (1, "mm-bot secrets: mm-bot/testnet/bybit: api_secret is not saved\n")
    whole = aws.secrets("save", "--env", "testnet", "--key-type", "api_secret", stdin=SECRET)
    assert whole.document["whole"] is True
    fetched = aws.secrets("fetch", "--env", "testnet").document
    assert (fetched["api_key"], fetched["api_secret"], fetched["age_days"]) == ("1234...cdef", "***", 0)
    got = [aws.secrets("get", "--env", "testnet", "--key-type", one) for one in ("api_key", "api_secret")]
    assert [one.document["value"] for one in got] == ["1234...cdef", "***"]
    listed = aws.secrets("list").document["secrets"]
    assert "mm-bot/testnet/bybit" in [one["name"] for one in listed]
    known = aws.secrets("whoami", environment={"EXCHANGE_ENV": "testnet"})
    assert (known.code, known.document["status"]) == (0, "ok")
    for told in (half, named, whole, *got, known):
        assert SECRET not in repr(told)
        assert KEY not in repr(told)


def test_live_is_kept_as_prod(aws: Cloud) -> None:
    told = aws.secrets("whoami", environment={"EXCHANGE_ENV": "live"})
    assert told.document["secret_env"] == "prod"
    assert aws.secrets("fetch", "--env", "live", "--exchange", "okx").error == (
        "mm-bot secrets: mm-bot/prod/okx is not saved\n"
    )


def test_a_rotation_replaces_both_halves_and_nothing_can_be_rotated_that_is_not_there(aws: Cloud) -> None:
    absent = aws.secrets("rotate", "--env", "dev", stdin="a-new-key-000001\na-new-secret\n")
    assert (absent.code, absent.error) == (1, "mm-bot secrets: mm-bot/dev/bybit is not saved\n")
    aws.save_pair(KEY, SECRET, env="dev")
    before = aws.secrets("fetch", "--env", "dev").document["version"]
    rotated = aws.secrets("rotate", "--env", "dev", stdin="9876543210rotated-key\nrotated-secret\n").document
    assert (rotated["status"], rotated["api_key"]) == ("rotated", "9876...-key")
    pair = ReaderSecrets({**os.environ, **aws.environment}, "dev").pair("bybit")
    assert (pair.api_key.reveal(), pair.api_secret.reveal()) == ("9876543210rotated-key", "rotated-secret")
    assert pair.version == rotated["version"] != before


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        ("", "stdin: 0 lines; needs 1: api_key"),
        ("\n", "stdin: api_key is empty"),
        ("planted-two planted-words\n", "stdin: api_key holds white space or characters that no key has"),
        ("planted-one\nplanted-two\n", "stdin: 2 lines; needs 1: api_key"),
    ],
)
def test_input_that_is_no_key_is_refused_without_showing_it(aws: Cloud, stdin: str, said: str) -> None:
    told = aws.secrets("save", "--env", "dev", "--key-type", "api_key", stdin=stdin)
    assert (told.code, told.out, told.error) == (2, "", f"mm-bot secrets: {said}\n")


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({"SECRETS_BACKEND": "vault"}, 2, "SECRETS_BACKEND: 'vault' is not allowed; allowed: memory, aws"),
        ({"AWS_REGION": ""}, 1, "AWS_REGION is not set"),
        ({"EXCHANGE_ENV": "paper"}, 2, "EXCHANGE_ENV: 'paper' is not allowed; allowed: dev, shadow,"),
    ],
)
def test_a_backend_that_cannot_be_is_named(aws: Cloud, environment: dict[str, str], code: int, said: str) -> None:
    told = aws.secrets("fetch", environment=environment)
    assert told.code == code
    assert told.error.startswith(f"mm-bot secrets: {said}")


def test_the_environment_as_a_backend_shows_and_keeps_nothing(aws: Cloud) -> None:
    memory = {"SECRETS_BACKEND": "memory", "BYBIT_API_KEY": KEY, "BYBIT_API_SECRET": SECRET}
    assert aws.secrets("whoami", environment=memory).document["status"] == "ok"
    assert aws.secrets("list", environment=memory).document["secrets"] == [
        {"name": "BYBIT_API_KEY"},
        {"name": "BYBIT_API_SECRET"},
    ]
    refused = aws.secrets("save", "--key-type", "api_key", stdin=KEY, environment=memory)
    assert (refused.code, refused.error) == (
        2,
        "mm-bot secrets: SECRETS_BACKEND: 'memory' keeps nothing; set BYBIT_API_KEY, BYBIT_API_SECRET in the"
        " environment, or use aws\n",
    )


def test_a_backend_that_does_not_answer_is_unreadable_and_not_missing(aws: Cloud) -> None:
    environment = {**os.environ, **aws.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    with pytest.raises(SecretsUnreadable, match="mm-bot/prod/bybit"):
        ReaderSecrets(environment, "prod").pair("bybit")
    with pytest.raises(SecretMissing, match=r"^mm-bot/prod/bitget is not saved$"):
        ReaderSecrets({**os.environ, **aws.environment}, "prod").pair("bitget")


def test_the_reader_prints_values_to_no_terminal_and_no_file(aws: Cloud, tmp_path: Path) -> None:
    aws.save_pair(KEY, SECRET, env="dev")
    with (tmp_path / "out").open("w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "bot.runtime.secret_reader", "dev", "bybit"],
            cwd=ROOT, env={**os.environ, **aws.environment}, stdout=out, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert (tmp_path / "out").read_text() == ""


def test_a_bot_whose_key_is_not_there_names_it_and_does_not_start(venue: SimulatedVenue, tmp_path: Path) -> None:
    with cloud() as empty:
        code, said = refused_start(venue, venue.account(), tmp_path, environment=in_the_cloud(empty))
    assert (code, said) == (2, "mm-bot: mm-bot/prod/bybit is not saved\n")


def test_kill_switch_and_crash_show_no_planted_secret(aws: Cloud, venue: SimulatedVenue, tmp_path: Path) -> None:
    account = venue.account()
    aws.save_pair(account["api_key"], account["api_secret"])
    values = [account["api_key"], account["api_secret"]]
    with running_bot(venue, tmp_path, account=account, environment=in_the_cloud(aws)) as bot:
        bot.renew(1)
        wait_for("two quotes at the venue", lambda: _two_sided(venue, bot), deadline_s=30)
        shown = bot.http.get("/metrics").text + bot.http.get("/api/ui/status").text
        assert psutil.Process(bot.process.pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)
        bot.process.send_signal(signal.SIGABRT)  # the signal that would leave an image of its memory
        bot.process.wait(10)
    environment = {**bot_environment(venue, account), **in_the_cloud(aws), "PATH": os.environ["PATH"]}
    said = ""
    for extra in (("--execute",), ()):
        report = ("--report", str(tmp_path / "kill_switch.json"))
        done = subprocess.run(
            [sys.executable, "-m", "bot", "kill-switch", "--symbols", "BTCUSDT", *report, *extra],
            cwd=ROOT, env={k: v for k, v in environment.items() if v}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    assert venue.own_open(account["account"]) == []
    assert "executed" in said
    assert not text_holds(shown + said, values)
    assert files_that_hold(tmp_path, values) == []
    assert not list(ROOT.glob("core*"))


def test_a_planted_secret_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "one.log").write_text(f"x {KEY} y")
    (tmp_path / "two.db").write_bytes(base64.b64encode(SECRET.encode()))
    with tarfile.open(tmp_path / "three.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "one.log", "inside.log")
    found = [Path(name).name for name in files_that_hold(tmp_path, [KEY, SECRET])]
    assert found == ["one.log", "three.tar.gz:inside.log", "two.db"]


def _refused(venue: SimulatedVenue, account: dict[str, str]) -> bool:
    hosts = BybitHosts(venue.ready["rest_url"], "", "", "")
    with AccountClient(hosts, account["api_key"], account["api_secret"]) as client:
        try:
            client.key_information()
        except VenueRefused as error:
            return error.code == 10003
        except VenueError:  # asked too often, or away: that says nothing
            return False
    return False


def _two_sided(venue: SimulatedVenue, bot: Bot, symbols: Sequence[str] = SYMBOLS[:1]) -> bool:
    standing = {(order["symbol"], order["side"]) for order in venue.own_open(bot.account)}
    return standing == set(itertools.product(symbols, ("buy", "sell")))


def _events(bot: Bot, event: str) -> list[dict[str, object]]:
    return [one for one in bot.log_events() if one["event"] == event]


def test_a_key_rotated_under_load_loses_no_order_and_shows_nowhere(
    aws: Cloud, venue: SimulatedVenue, tmp_path: Path
) -> None:
    old = venue.account()
    aws.save_pair(old["api_key"], old["api_secret"])
    environment, extra = in_the_cloud(aws), ("--symbols", ",".join(SYMBOLS))
    often = asking_often(tmp_path)
    with running_bot(venue, tmp_path, account=old, settings=often, environment=environment, extra=extra) as bot:
        bot.renew(1)
        wait_for("two quotes of each symbol", lambda: _two_sided(venue, bot, SYMBOLS), deadline_s=30)
        assert bot.rss_mb() < RSS_MB_MAX
        # a pair the venue does not take, and one of somebody else: neither is used, and the bot says so
        other = venue.account()
        for wrong in ((KEY, SECRET), (other["api_key"], other["api_secret"])):
            said = len(_events(bot, "secret_refused"))
            assert aws.secrets("rotate", "--env", "prod", stdin="\n".join(wrong)).code == 0
            wait_for("the refusal", lambda said=said: len(_events(bot, "secret_refused")) > said, deadline_s=30)
        new = venue.rotate_key(old["account"], "30")  # the bot may take seconds to hear of it: boto3 loads that long
        assert aws.secrets("rotate", "--env", "prod", stdin=f"{new['api_key']}\n{new['api_secret']}\n").code == 0
        wait_for("the rotation", lambda: _events(bot, "secret_rotated"), deadline_s=30)
        wait_for("the end of the old key", lambda: _refused(venue, old), deadline_s=30, every_s=0.5)
        placed = 'mm_orders_placed_total{side="buy",symbol="BTCUSDT"}'
        before = bot.metrics()[placed]
        wait_for("new orders under the new key", lambda: bot.metrics()[placed] > before, deadline_s=60)
        wait_for("two quotes of each symbol", lambda: _two_sided(venue, bot, SYMBOLS), deadline_s=30)
        assert bot.rss_mb() < RSS_MB_MAX
        shown = bot.metrics()
        assert shown["mm_uncaught_exceptions_total"] == 0
        assert sum(value for name, value in shown.items() if name.startswith("mm_orders_rejected_total")) == 0
        assert sum(value for name, value in shown.items() if name.startswith("mm_recon_divergence_total")) == 0
        assert shown["mm_ws_reconnects_total"] >= 1  # the venue cut the sockets of the old key
        told = bot.http.get("/metrics").text + bot.http.get("/api/ui/status").text
        assert bot.stop() == 0
    truth = venue.truth(old["account"])
    assert truth["orders"] == []
    with JournalReader(bot.state_dir / "journal.db") as reader:
        assert len(list(reader.rows("SELECT execution_id FROM fills"))) == truth["executions_count"]
    values = [KEY, SECRET, *(pair[half] for pair in (old, other, new) for half in ("api_key", "api_secret"))]
    assert "mm_uncaught_exceptions_total" in told
    assert '"run":"run-of-the-test"' in told
    assert not text_holds(told, values)
    assert len(list(tmp_path.rglob("*"))) > 5
    assert files_that_hold(tmp_path, values) == []
