"""Freeze → the venue shows no own order, and what the bot weighs: real venue, real bot, loopback.

    python -m tests.bench.freeze [--freezes 200] [--lapses 5]

Measured from outside: from sending the operator's freeze, or the last grant of 5 s that nobody renews, until a read of
the venue's own state shows no order of the account. Exit code 1 only where the bot did not end as it should; a target
that is not met is printed as not met.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.support.bot_rig import DEMO_SETTINGS, Bot, SimulatedVenue, running_bot, simulated_venue, wait_for

P99_MS_MAX = 100.0
LAPSE_S_MAX = 6.0
"""From the last grant on: its 5 s, and a second for the rest."""
RSS_MB_MAX = 80.0
PACE_S = 0.3
"""Between two freezes, so that the bot's own runaway breaker and the venue's rate limits stay out of it."""

SETTINGS_CHANGES = {"hysteresis_s: 3": "hysteresis_s: 0", "orders_per_min_max: 300": "orders_per_min_max: 600"}


def freeze_ms(venue: SimulatedVenue, bot: Bot) -> float:
    """One freeze, in milliseconds."""
    wait_for("quotes at the venue", lambda: venue.own_open(bot.account), deadline_s=30, every_s=0.02)
    began = time.perf_counter()
    bot.order("freeze", "drill").raise_for_status()
    while venue.own_open(bot.account):
        if time.perf_counter() - began > 5:
            raise TimeoutError(f"orders stand 5 s after a freeze: {bot.status()}")
    return (time.perf_counter() - began) * 1000


def lapse_s(venue: SimulatedVenue, bot: Bot) -> float:
    """From a last grant that nobody renews until nothing is open, seconds. It is renewed again afterwards."""
    wait_for("quotes at the venue", lambda: venue.own_open(bot.account), deadline_s=30)
    bot.lapse()
    began = time.perf_counter()
    bot.grant(1).raise_for_status()
    while bot.state() == "RUNNING" or venue.own_open(bot.account):  # between two quotes nothing stands either
        if time.perf_counter() - began > 30:
            raise TimeoutError(f"orders stand 30 s after the last grant: {bot.status()}")
        time.sleep(0.01)
    took_s = time.perf_counter() - began
    bot.renew(1)
    return took_s


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(share * 1000) // 1000) - 1)]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.freeze")
    parser.add_argument("--freezes", type=int, default=200)
    parser.add_argument("--lapses", type=int, default=5)
    args = parser.parse_args(argv)
    freezes: int = args.freezes
    lapses: int = args.lapses
    for name, number in (("--freezes", freezes), ("--lapses", lapses)):
        if number < 1:
            parser.error(f"{name}: {number} is not allowed; allowed: at least 1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = DEMO_SETTINGS.read_text(encoding="utf-8")
        for before, after in SETTINGS_CHANGES.items():
            if before not in text:
                raise ValueError(f"{DEMO_SETTINGS}: no {before!r} to change")
            text = text.replace(before, after)
        settings = folder / "bench.yaml"
        settings.write_text(text, encoding="utf-8")
        # no threshold for edge: the market's own freezes are not what is measured
        extra = ("--edge-threshold", "0")
        with simulated_venue(folder) as venue, running_bot(venue, folder, settings=settings, extra=extra) as bot:
            rss_start_mb = bot.rss_mb()
            bot.renew(1)
            took_ms = []
            for _ in range(freezes):
                due = time.monotonic() + PACE_S
                took_ms.append(freeze_ms(venue, bot))
                time.sleep(max(0.0, due - time.monotonic()))
            lapsed_s = [lapse_s(venue, bot) for _ in range(lapses)]
            shown = bot.metrics()
            rss_end_mb = bot.rss_mb()
            code = bot.stop()
    own = {edge: shown[f'mm_cancel_all_duration_seconds_bucket{{le="{edge}"}}'] for edge in ("0.01", "0.05", "0.1")}
    p99_ms = percentile(took_ms, 0.99)
    rows = [
        ("freezes", f"{len(took_ms)}", ""),
        ("freeze → none at the venue, p50", f"{percentile(took_ms, 0.50):.1f} ms", ""),
        ("freeze → none at the venue, p99", f"{p99_ms:.1f} ms", below(p99_ms, P99_MS_MAX, "ms")),
        ("freeze → none at the venue, worst", f"{max(took_ms):.1f} ms", ""),
        ("last grant → none at the venue, worst", f"{max(lapsed_s):.2f} s", below(max(lapsed_s), LAPSE_S_MAX, "s")),
        *((f"the bot's own proof ≤ {float(edge) * 1000:.0f} ms", f"{count:.0f}", "") for edge, count in own.items()),
        ("memory at start", f"{rss_start_mb:.1f} MB", below(rss_start_mb, RSS_MB_MAX, "MB")),
        ("memory at the end", f"{rss_end_mb:.1f} MB", below(rss_end_mb, RSS_MB_MAX, "MB")),
        ("exit code", str(code), ""),
    ]
    for what, value, limit in rows:
        print(f"{what:38} {value:>12}  {limit}".rstrip())
    return 0 if code == 0 else 1


def below(value: float, limit: float, unit: str) -> str:
    """The limit and whether it is kept."""
    return f"< {limit:g} {unit}  {'met' if value < limit else 'NOT met'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
