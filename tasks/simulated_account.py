"""Accounts on the simulated venue: each rollout gets a new one, and its file starts a guard for it.

The control API is the venue's own back door and needs its token; no real venue has one.
"""

from __future__ import annotations

import json
import secrets

import httpx

from tasks.record import FINAL_STEPS, Record
from tasks.state_folder import StateFolder, read_json, write_private
from tasks.supervise.table import read_table
from tasks.supervise.takedown import retire_account

EQUITY_QUOTE = "100000"
TIMEOUT_S = 5.0


class VenueUnreachable(Exception):
    """The simulated venue is not up, or refused; one line for people."""


def open_account(folder: StateFolder, rollout: str) -> str:
    """Opens an account with 100,000 quote at the running simulated venue and writes its file; returns its name.

    Asked again for the same rollout, it returns the account that is there.
    """
    for path in folder.accounts.glob("*.json"):
        if (read_json(path) or {}).get("rollout") == rollout:
            return path.stem
    table = read_table(folder.table)
    if table is None or "venue_rest_url" not in table.endpoints:
        raise VenueUnreachable("simulated venue: not up; start it with `rollout up`")
    urls = {name: table.endpoints[f"venue_{name}"] for name in ("rest_url", "ws_public_url", "ws_private_url")}
    urls["ws_trade_url"] = table.endpoints["venue_ws_trade_url"]
    told = control(folder, urls["rest_url"], "accounts", {"equity_quote": EQUITY_QUOTE})
    account = str(told["account"])
    content = {
        "account": account,
        "venue": "simulated",
        "rollout": rollout,
        **urls,
        "api_key": told["api_key"],
        "api_secret": told["api_secret"],
        "grant_token": secrets.token_hex(16),
        "approve_token": secrets.token_hex(16),
    }
    write_private(folder.accounts / f"{account}.json", json.dumps(content, indent=2) + "\n")
    return account


def control(folder: StateFolder, rest_url: str, call: str, body: dict[str, object]) -> dict[str, object]:
    """One POST to the venue's control API. Raises VenueUnreachable with its own words where it refuses."""
    token = folder.control_token.read_text().strip()
    try:
        answer = httpx.post(
            f"{rest_url}/sim/{call}", json=body, headers={"X-Sim-Token": token}, timeout=TIMEOUT_S, trust_env=False
        )
        told = answer.json()
    except (httpx.TransportError, ValueError) as error:
        raise VenueUnreachable(f"simulated venue: {rest_url}/sim/{call} does not answer ({error})") from None
    if answer.status_code != 200 or not isinstance(told, dict):
        raise VenueUnreachable(f"simulated venue: {call} refused ({answer.status_code}): {answer.text[:200]}")
    return told


def venue_truth(folder: StateFolder, rest_url: str, account: str) -> dict[str, object]:
    """What the venue itself holds of the account: open orders, positions, executions, faults armed and fired."""
    token = folder.control_token.read_text().strip()
    try:
        answer = httpx.get(
            f"{rest_url}/sim/state",
            params={"account": account},
            headers={"X-Sim-Token": token},
            timeout=TIMEOUT_S,
            trust_env=False,
        )
        told = answer.json()
    except (httpx.TransportError, ValueError) as error:
        raise VenueUnreachable(f"simulated venue: {rest_url}/sim/state does not answer ({error})") from None
    if answer.status_code != 200 or not isinstance(told, dict):
        raise VenueUnreachable(f"simulated venue: state refused ({answer.status_code}): {answer.text[:200]}")
    return told


def retire_finished(folder: StateFolder, record: Record) -> None:
    """Retires simulated accounts all of whose stage runs have ended: their guards have nothing left to do."""
    for path in folder.accounts.glob("*.json"):
        if (read_json(path) or {}).get("venue") != "simulated":
            continue
        runs = record.stage_runs(account=path.stem)
        if runs and all(run.step in FINAL_STEPS for run in runs):
            retire_account(folder, path.stem)
