"""Real processes for tests and benches: a simulated venue, a bot on it, and a guard's voice that renews the grant."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from bot.runtime.operators import release_code

ROOT = Path(__file__).resolve().parents[2]
DEMO_SETTINGS = ROOT / "configs" / "bot" / "demo.yaml"
CONTROL_TOKEN = secrets.token_hex(16)
GUARD_TOKEN = secrets.token_hex(16)
OPERATOR_TOKEN = secrets.token_hex(16)
LIMITS = {"inventory_max_quote": "500", "total_max_quote": "2000"}
PATIENCE = 4
"""How many times longer than on a machine at rest it is waited for what comes: a slow one is no fault of what is shown.
How fast something must be is measured in tests/bench."""
HTTP_S = 20.0
"""A process that stands still for a moment answers after it."""


def wait_for(what: str, condition: Callable[[], Any], deadline_s: float = 15.0, every_s: float = 0.05) -> Any:
    """Polls until the condition is true and returns it. Raises TimeoutError naming what was waited for.

    `deadline_s`: on a machine at rest; it is waited PATIENCE times as long.
    """
    deadline_s *= PATIENCE
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {deadline_s} s")
        time.sleep(every_s)
    return value


def _start(
    arguments: list[str], environment: dict[str, str], stderr: Path, module: str = "bot"
) -> subprocess.Popen[str]:
    with stderr.open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )


def end(process: subprocess.Popen[str]) -> None:
    """Ends a process that this rig started, whatever it takes."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
    if process.stdout is not None:
        process.stdout.close()


class SimulatedVenue:
    """`mm-bot serve-venue` with its control API."""

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, Any]) -> None:
        self.process = process
        self.ready = ready
        self.http = httpx.Client(
            base_url=ready["rest_url"], headers={"X-Sim-Token": CONTROL_TOKEN}, timeout=HTTP_S, trust_env=False
        )

    def account(self, equity_quote: str = "100000") -> dict[str, str]:
        answer = self.http.post("/sim/accounts", json={"equity_quote": equity_quote})
        answer.raise_for_status()
        found: dict[str, str] = answer.json()
        return found

    def truth(self, account: str) -> dict[str, Any]:
        answer = self.http.get("/sim/state", params={"account": account})
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def rotate_key(self, account: str, grace_s: str) -> dict[str, str]:
        """A new key for the account; the one it had works for `grace_s` more."""
        answer = self.http.post("/sim/keys", json={"account": account, "grace_s": grace_s})
        answer.raise_for_status()
        found: dict[str, str] = answer.json()
        return found

    def stand(self, account: str, **changes: object) -> None:
        """Changes what the venue says of the account's key and set-up."""
        self.http.post("/sim/standing", json={"account": account, **changes}).raise_for_status()

    def own_open(self, account: str) -> list[dict[str, Any]]:
        """Orders of the account that stand at the venue, by the venue's own word."""
        return list(self.truth(account)["orders"])


@contextlib.contextmanager
def simulated_venue(
    folder: Path, *, seed: int = 1, market: str = "generated", options: Sequence[str] = ()
) -> Iterator[SimulatedVenue]:
    arguments = ["serve-venue", "--market", market, "--port", "0", "--json", "--seed", str(seed), "--accounts", "1"]
    arguments += options
    process = _start(arguments, {"SLIPWAY_SIM_CONTROL_TOKEN": CONTROL_TOKEN}, folder / "venue.stderr")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the venue did not start: {(folder / 'venue.stderr').read_text()}")
        venue = SimulatedVenue(process, json.loads(line))
        with venue.http:
            yield venue
    finally:
        end(process)


class Bot:
    """`mm-bot run` as the guard's launcher starts it."""

    def __init__(self, process: subprocess.Popen[str], url: str, account: str, state_dir: Path) -> None:
        self.process = process
        self.account = account
        self.state_dir = state_dir
        self.http = httpx.Client(base_url=url, timeout=HTTP_S, trust_env=False)
        self._renewing = threading.Event()
        self._thread: threading.Thread | None = None

    def grant(self, epoch: int, ttl_s: float = 5.0, account: str = "", token: str = GUARD_TOKEN) -> httpx.Response:
        """One renewal, as the guard sends it."""
        body = {"account": account or self.account, "epoch": epoch, "limits": LIMITS, "ttl_s": ttl_s}
        return self.http.post("/grant", json=body, headers={"Authorization": f"Bearer {token}"})

    def order(self, call: str, reason: str) -> httpx.Response:
        """One of the operator's calls: freeze, hold, cancel-all, shutdown."""
        headers = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
        return self.http.post(f"/api/ui/{call}", json={"reason": reason}, headers=headers)

    def release(self, call: str, who: str, **body: object) -> httpx.Response:
        """`resume-request`, `resume-confirm` and those of `re-arm`, as the guard calls them for that person."""
        if call.endswith("-confirm"):
            epoch = self.http.get("/api/ui/status").json()["epoch"]
            body = {"code": release_code(GUARD_TOKEN, epoch, str(body["request_id"]), who), **body}
        headers = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
        return self.http.post(f"/api/ui/{call}", json={"operator": who, **body}, headers=headers)

    def renew(self, epoch: int, every_s: float = 1.0) -> None:
        """Renews the grant in the background until `lapse`."""
        self._renewing.set()
        self.grant(epoch).raise_for_status()

        def keep() -> None:
            body = {"account": self.account, "epoch": epoch, "limits": LIMITS, "ttl_s": 5.0}
            headers = {"Authorization": f"Bearer {GUARD_TOKEN}"}
            with httpx.Client(base_url=self.http.base_url, timeout=2.0, trust_env=False) as http:
                due = time.monotonic() + every_s
                while self._renewing.is_set():
                    if time.monotonic() >= due:
                        due += every_s
                        with contextlib.suppress(httpx.HTTPError):
                            http.post("/grant", json=body, headers=headers)
                    time.sleep(0.05)

        self._thread = threading.Thread(target=keep, daemon=True)
        self._thread.start()

    def lapse(self) -> None:
        """Stops renewing."""
        self._renewing.clear()
        if self._thread is not None:
            self._thread.join(5)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/api/ui/status").json()
        return found

    def state(self) -> str:
        return str(self.status()["state"])

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`, as `name{labels}`."""
        lines = self.http.get("/metrics").text.splitlines()
        return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if not x.startswith("#"))}

    def rss_mb(self) -> float:
        return self.metrics()["process_resident_memory_bytes"] / 1e6

    def log_events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.state_dir / "bot.log").read_text().splitlines()]

    def stop(self, number: signal.Signals = signal.SIGTERM, deadline_s: float = 15.0 * PATIENCE) -> int:
        """Signals it and returns the exit code."""
        self.lapse()
        self.process.send_signal(number)
        return self.process.wait(deadline_s)


def bot_arguments(state_dir: Path, settings: Path) -> list[str]:
    """The command line of the launcher."""
    return [
        *("run", "--network", "--live", "--exchange", "bybit", "--profile", "live", "--symbols", "BTCUSDT"),
        *("--iterations", "0", "--max-inv", "500", "--max-total", "2000", "--edge-threshold", "5.0"),
        *("--post-only-offset-bps", "2.0", "--min-qty-pad", "1.2", "--durable-state", "--state-dir", str(state_dir)),
        *("--recon-interval-s", "2", "--obs", "--obs-host", "127.0.0.1", "--obs-port", "0"),
        *("--log-file", str(state_dir / "bot.log"), "--settings", str(settings)),
    ]


def bot_environment(venue: SimulatedVenue, account: dict[str, str]) -> dict[str, str]:
    """What the launcher gives it."""
    return {
        "MM_LIVE_ENABLE": "1",
        "BYBIT_API_KEY": account["api_key"],
        "BYBIT_API_SECRET": account["api_secret"],
        "MM_VENUE_REST_URL": venue.ready["rest_url"],
        "MM_VENUE_WS_PUBLIC_URL": venue.ready["ws_public_url"],
        "MM_VENUE_WS_PRIVATE_URL": venue.ready["ws_private_url"],
        "MM_VENUE_WS_TRADE_URL": venue.ready["ws_trade_url"],
        "MM_ACCOUNT": account["account"],
        "MM_RUN": "run-of-the-test",
        "MM_GRANT_TOKEN": GUARD_TOKEN,
        "APPROVE_TOKEN": OPERATOR_TOKEN,
    }


def refused_start(
    venue: SimulatedVenue,
    account: dict[str, str],
    folder: Path,
    *,
    extra: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """(exit code, stderr) of a bot that is expected not to start."""
    done = subprocess.run(
        [sys.executable, "-m", "bot", *bot_arguments(folder / "run", DEMO_SETTINGS), *extra],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **bot_environment(venue, account), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=30 * PATIENCE,
        check=False,
    )
    return done.returncode, done.stderr


@contextlib.contextmanager
def running_bot(
    venue: SimulatedVenue,
    folder: Path,
    *,
    settings: Path = DEMO_SETTINGS,
    extra: tuple[str, ...] = (),
    account: dict[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    module: str = "bot",
) -> Iterator[Bot]:
    """A bot on a fresh account (or the given one), without a grant yet. `environment`: over its own; "" takes away.
    `module`: what is run as the bot."""
    account = account or venue.account()
    state_dir = folder / "run"
    state_dir.mkdir(exist_ok=True)
    given = bot_environment(venue, account) | dict(environment or {})
    given = {name: value for name, value in given.items() if value}
    process = _start([*bot_arguments(state_dir, settings), *extra], given, folder / "bot.stderr", module)
    bot: Bot | None = None
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bot did not start: {(folder / 'bot.stderr').read_text()}")
        bot = Bot(process, json.loads(line)["obs_url"], account["account"], state_dir)
        yield bot
    finally:
        if bot is not None:
            bot.lapse()
            bot.http.close()
        end(process)
