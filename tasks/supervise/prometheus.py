"""Prometheus as a child: where it is found, whether it is new enough, and what it is told to scrape."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from tasks.state_folder import REPOSITORY, StateFolder

OLDEST = (2, 39)
INSTALL = "install it (apt-get install --no-install-recommends prometheus) or set PROMETHEUS_BIN"

RULES = REPOSITORY / "infra" / "prometheus" / "rules"

CONFIGURATION = """\
# Written by the supervisor at every start.
global:
  scrape_interval: {every_ms}ms
  scrape_timeout: {timeout_ms}ms
  evaluation_interval: {every_ms}ms
rule_files: ["{rules}/*.yml"]
scrape_configs:
  - job_name: slipway
    file_sd_configs:
      - files: ["{targets}/*.json"]
        refresh_interval: 1s
"""


class PrometheusUnusable(Exception):
    """Prometheus cannot be had here; the message is the one line for the person."""


def find_prometheus() -> Path:
    """The binary to use: PROMETHEUS_BIN, else PATH. PrometheusUnusable where it is absent or older than 2.39."""
    named = os.environ.get("PROMETHEUS_BIN", "")
    found = named or shutil.which("prometheus") or ""
    if not found:
        raise PrometheusUnusable(f"Prometheus: not found on PATH (needs >= {OLDEST[0]}.{OLDEST[1]}); {INSTALL}")
    try:
        done = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or "it gave no version within 10 s"
        raise PrometheusUnusable(f"Prometheus: {found} cannot be run ({reason}); {INSTALL}") from None
    match = re.search(r"version (\d+)\.(\d+)\.\S*", done.stdout + done.stderr)
    if match is None:
        raise PrometheusUnusable(f"Prometheus: {found} --version names no version (needs >= 2.39); {INSTALL}")
    if (int(match[1]), int(match[2])) < OLDEST:
        version = match[0].removeprefix("version ").rstrip(",")
        raise PrometheusUnusable(f"Prometheus: {found} is {version}, needs >= {OLDEST[0]}.{OLDEST[1]}; {INSTALL}")
    return Path(found)


def prometheus_command(
    binary: Path, folder: StateFolder, port: int, path: str = "", scrape_every_s: float = 1.0
) -> list[str]:
    """The command line but for its data folder, with the configuration written. It answers below `path` alone.

    The look-back lets a target that died be absent after five missed scrapes, not after five minutes.
    """
    configuration = folder.prometheus / "prometheus.yml"
    every_ms = round(scrape_every_s * 1000)
    times = {"every_ms": every_ms, "timeout_ms": every_ms * 9 // 10}
    configuration.write_text(CONFIGURATION.format(targets=folder.targets, rules=folder.rules, **times))
    shutil.rmtree(folder.rules, ignore_errors=True)  # a drill that was killed may have left a lowered one
    shutil.copytree(RULES, folder.rules)
    return [
        str(binary),
        f"--config.file={configuration}",
        "--storage.tsdb.retention.time=15d",
        f"--query.lookback-delta={every_ms * 5}ms",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.route-prefix={path or '/'}",
        "--web.enable-lifecycle",  # rules are read again by POST /-/reload: on loopback, below the path alone
        "--log.level=warn",
    ]


def fresh_data_folder(folder: StateFolder) -> Path:
    """A new, empty data folder. Older ones go: Debian's build takes no lock, and a shared folder loses its blocks."""
    for old in folder.prometheus.glob("data-*"):
        shutil.rmtree(old, ignore_errors=True)
    made = folder.prometheus / f"data-{time.time_ns()}"
    made.mkdir(parents=True)
    return made
