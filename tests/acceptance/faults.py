"""Every fault, end to end, judged from outside the project's own code.

    python -m tests.acceptance.faults [--rounds 3] [--only crash,orphan] [--busy]

Runs `rollout demo --stage canary --fault X`, then reads `rollout status --json` and the venue's own state. A row is
right only where the exit code, the state, the reason and the criterion are as the table of the specification says,
every proof carries a time, and the venue itself shows no open order and no position. `--busy` keeps both cores loaded
meanwhile.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
ROLLOUT = Path(sys.executable).parent / "rollout"
HOME = Path(os.environ.get("SLIPWAY_HOME", ROOT / ".slipway"))

EXPECTED: dict[str | None, tuple[int, str, str | None]] = {
    None: (0, "promoted", None),
    "crash": (3, "rolled_back", "candidate"),
    "crossing": (3, "rolled_back", "candidate"),
    "loss": (3, "rolled_back", "candidate"),
    "orphan": (3, "rolled_back", "candidate"),
    "stall": (4, "parked", "environment"),
    "blind": (4, "parked", "environment"),
}
STEPS = ("breach", "seen", "grant_revoked", "bot_gone", "none_open", "flat")
REACTION_S_MAX = 5.0


def run(fault: str | None) -> dict[str, Any]:
    """One run from outside; returns the row of the table, with `faults` naming everything that is not as it should."""
    command = [str(ROLLOUT), "demo", "--stage", "canary", *(["--fault", fault] if fault else [])]
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    took_s = time.monotonic() - started
    status = json.loads(subprocess.run([str(ROLLOUT), "status", "--json"], cwd=ROOT, capture_output=True, text=True,
                                       timeout=60, check=True).stdout)  # fmt: skip
    newest = status["rollouts"][0]
    exit_code, state, reason = EXPECTED[fault]
    wrong = []
    if done.returncode != exit_code:
        wrong.append(f"exit {done.returncode}, expected {exit_code}")
    if newest["state"] != state:
        wrong.append(f"state {newest['state']}, expected {state}")
    if reason and newest["reason"] != reason:
        wrong.append(f"reason {newest['reason']}, expected {reason}")
    wrong += _timeline_faults(newest, fault)
    wrong += _venue_faults(newest["rollout"])
    if not Path(newest["evidence"]).exists():
        wrong.append(f"no evidence at {newest['evidence']}")
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr.strip()[-200:]
    return {"fault": fault or "none", "took_s": took_s, "wrong": wrong, "last": last, "status": newest}


def _timeline_faults(newest: dict[str, Any], fault: str | None) -> list[str]:
    if fault is None:
        return []
    if not newest["decided_by"] or newest["decided_by"].get("criterion") is None:
        return ["no criterion decided"]
    at = {}
    for step in STEPS:
        text = newest["timeline"].get(step)
        if text is None:
            return [f"no time for {step}"]
        at[step] = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    wrong = []
    for step in ("grant_revoked", "bot_gone", "flat"):
        delay_s = at[step] - at["breach"]
        if not -0.05 <= delay_s <= REACTION_S_MAX:
            wrong.append(f"{step} {delay_s:.1f} s after the breach")
    if at["none_open"] < at["bot_gone"]:
        wrong.append("none_open proven before the bot was gone")
    return wrong


def _venue_faults(rollout: str) -> list[str]:
    """The venue's own truth about the account of that rollout, read without any of our clients."""
    stack = json.loads((HOME / "stack.json").read_text())
    token = (HOME / "control_token").read_text().strip()
    account = next((a for a in _accounts() if a.get("rollout") in (rollout, None)), None)
    wrong = []
    for known in [account] if account and account.get("rollout") else _accounts():
        answer = httpx.get(f"{known['rest_url']}/sim/state", params={"account": known["account"]},
                           headers={"X-Sim-Token": token}, timeout=5).json()  # fmt: skip
        own = [o for o in answer["orders"]]
        held = [p for p in answer["positions"] if float(p["qty"]) != 0]
        if own:
            wrong.append(f"{len(own)} order(s) still open on {known['account']}")
        if held:
            wrong.append(f"position {held[0]['qty']} left on {known['account']}")
    return wrong if stack else ["no stack.json"]


def _accounts() -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted((HOME / "accounts").glob("*.json"))]


def _burn() -> None:
    while True:
        sum(range(10_000))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.faults")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--busy", action="store_true", help="load both cores meanwhile")
    arguments = parser.parse_args(argv)
    wanted = [f for f in EXPECTED if not arguments.only or (f or "none") in arguments.only.split(",")]
    burners = [multiprocessing.Process(target=_burn, daemon=True) for _ in range(os.cpu_count() or 2)]
    if arguments.busy:
        for burner in burners:
            burner.start()
    rows = []
    for round_number in range(1, arguments.rounds + 1):
        for fault in wanted:
            row = run(fault)
            rows.append(row)
            verdict = "ok" if not row["wrong"] else "WRONG: " + "; ".join(row["wrong"])
            print(f"{round_number}  {row['fault']:9} {row['took_s']:6.1f} s  {verdict}", flush=True)
            print(f"   {row['last'][:150]}", flush=True)
    failed = sum(bool(row["wrong"]) for row in rows)
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
