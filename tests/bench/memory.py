"""How much memory a quoting bot takes, with its key in the environment and with its key in AWS.

    python -m tests.bench.memory [seconds]

Real processes: the simulated venue on loopback, moto's Secrets Manager, the bot asking for its key every second. A
target that is not met is printed as not met.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.bench.freeze import below
from tests.support.bot_rig import DEMO_SETTINGS, SimulatedVenue, running_bot, simulated_venue, wait_for
from tests.support.cloud import cloud

LIMIT_MB = 95.0


def peak_mb(venue: SimulatedVenue, folder: Path, seconds: float, environment: dict[str, str]) -> float:
    """The largest resident size seen while it quotes, MB."""
    folder.mkdir()
    settings = folder / "candidate.yaml"
    text = DEMO_SETTINGS.read_text(encoding="utf-8")
    settings.write_text(text.replace("receive_window_ms: 2000", "receive_window_ms: 2000\n  secret_poll_s: 1"))
    account = venue.account()
    if environment:
        with cloud() as aws:
            aws.save_pair(account["api_key"], account["api_secret"])
            return _peak(venue, folder, seconds, account, settings, environment | aws.environment)
    return _peak(venue, folder, seconds, account, settings, {})


def _peak(
    venue: SimulatedVenue,
    folder: Path,
    seconds: float,
    account: dict[str, str],
    settings: Path,
    environment: dict[str, str],
) -> float:
    with running_bot(venue, folder, account=account, settings=settings, environment=environment) as bot:
        bot.renew(1)
        wait_for("quotes", lambda: len(venue.own_open(bot.account)) == 2, deadline_s=60)
        until, peak = time.monotonic() + seconds, 0.0
        while time.monotonic() < until:
            peak = max(peak, bot.rss_mb())
            time.sleep(0.5)
        bot.stop(deadline_s=30)
    return peak


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    with tempfile.TemporaryDirectory() as name, simulated_venue(Path(name)) as venue:
        own_mb = peak_mb(venue, Path(name) / "memory", seconds, {})
        aws_mb = peak_mb(venue, Path(name) / "aws", seconds, {"BYBIT_API_KEY": "", "BYBIT_API_SECRET": ""})
    print(f"with its key in the environment {own_mb:8.1f} MB")
    print(f"with its key in AWS             {aws_mb:8.1f} MB  {below(aws_mb, LIMIT_MB, 'MB')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
