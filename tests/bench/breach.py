"""Breach → permission revoked, breach → none open and flat proven: faults injected at the guard alone, without Prefect.

    python -m tests.bench.breach [--rounds 7] [--rigs 2] [--json]

Real processes on the simulated venue: each fault meets a bot with quotes standing, under a rollout of its own. The
breach is what the record says decided (the first measurement that failed, the deadline that passed, the moment somebody
said stop); the end is what it says is proven, and the venue is asked meanwhile whether it was so. The waits of step 2
are the grant's time to live, the receive window and two quote intervals. Exit code 1 where a fault did not end as it
should; a target that is not met is printed as not met.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from bot.domain.order import Side
from bot.venues.bybit.account_client import AccountClient
from bot.venues.bybit.hosts import hosts_for, override_hosts
from tasks.account_file import load_account
from tasks.record import FINAL_STEPS
from tasks.record_tables import StageRun
from tests.bench.freeze import percentile
from tests.support.guard_stack import PLAN, GuardStack, NotInTime

INTERVALS_MAX = 2
BEYOND_WAITS_S_MAX = 5.0
END_WITHIN_S = 90.0
AGAIN_MAX = 8
"""How many rollouts may end before their fault in all, as the market may have it."""
LOOK_EVERY_S = 0.05
CHANGES = {
    "grant_ttl_s: 5": "grant_ttl_s: 3",
    "lasts_s: 18": "lasts_s: 120",
    "configs/approvers.demo.yaml": "tests/support/approvers_brief.yaml",
    "{roles: [Quant Lead, SRE Lead, Risk Manager], distinct_people: 3}": "{roles: [Quant Lead]}",
    "{roles: [Risk Manager], distinct_people: 2}": "{roles: [Quant Lead]}",
}
ENDS = {
    "crash": "rolled_back",
    "crossing": "rolled_back",
    "loss": "rolled_back",
    "orphan": "rolled_back",
    "hang": "rolled_back",
    "stall": "parked",
    "blind": "parked",
    "stop": "parked",
}
"""Each kind of fault and how the stage must end."""
BACK_WITHIN = Decimal("0.05")
OVER = {"stall": "unstall", "loss": "loss_over"}


class NotAsItShould(Exception):
    """A fault that ended otherwise, or was claimed to have ended before the venue showed it."""


class NotBegun(Exception):
    """A rollout that did not come as far as its fault. Tried again, and told."""


@dataclass(frozen=True)
class Row:
    """One fault, seconds. `beyond_s`: breach → proven, without the waits of step 2. `clean_s`: breach → the venue's own
    state shows neither own order nor position, and goes on to."""

    kind: str
    decided_by: str
    revoked_s: float
    bot_gone_s: float
    clean_s: float
    proven_s: float
    beyond_s: float


class Rig:
    """A venue, a Prometheus and a guard, and one fault after the other."""

    def __init__(self, folder: Path, number: int) -> None:
        folder.mkdir()
        text = PLAN.read_text(encoding="utf-8")
        for before, after in CHANGES.items():
            if before not in text:
                raise ValueError(f"{PLAN}: no {before!r} to change")
            text = text.replace(before, after)
        (folder / "plan.yaml").write_text(text, encoding="utf-8")
        self.number = number
        self.stack = self._first = GuardStack(folder / "home", folder / "plan.yaml", seed=number + 7)
        self.stack.start_guard()
        self._turn = 0
        plan = self.stack.plan
        self.wait_s = plan.late_s

    def meet(self, kind: str) -> Row:
        """One rollout, met by one fault in its watch. Raises NotAsItShould, NotBegun."""
        self._turn += 1
        name = f"{kind}-{self.number}-{self._turn}"
        try:
            number = self._quoting(name)
        except AssertionError as error:
            raise NotBegun(f"{name}: {str(error).splitlines()[0]}") from error
        mark = Decimal(self.stack.truth()["mark_price"])
        self._inject(kind, name)
        try:
            return self._ended(kind, number)
        finally:
            if kind == "blind":
                self.stack.thaw("prometheus")
            if kind in OVER:
                self.stack.control("faults", {"kind": OVER[kind]})
            # What a jump left in the market would end the next rollout before its own fault.
            self.stack.until("the market is back", lambda: self._moved(mark) < BACK_WITHIN, 60)
            if kind == "loss":  # an account that has lost what it may is granted nothing for a day
                self._next_account()

    def _next_account(self) -> None:
        spent = self.stack.processes.pop(self.stack.guard_name)
        spent.terminate()
        spent.wait(15)
        self.stack = self.stack.another()
        self.stack.start_guard()

    def close(self) -> None:
        self.stack.thaw("prometheus")
        self._first.close()

    def _moved(self, mark: Decimal) -> Decimal:
        """By what share the market stands elsewhere than at `mark`."""
        return abs(Decimal(self.stack.truth()["mark_price"]) / mark - 1)

    def _quoting(self, name: str) -> int:
        """A rollout in its watch with quotes standing. Raises AssertionError where it does not come so far."""
        stack = self.stack
        number = stack.begin(name)
        people = [one.name for one in stack.approvers.people]
        signed = stack.sign(number, "entry", people[self._turn % len(people)])
        launched = stack.ask("launch", {"stage_run_id": number}) if signed.done else signed
        if not launched.done:
            raise NotInTime(launched.reason)
        stack.wait_step(number, ("watch",), 40)
        stack.until("quotes stand", lambda: stack.truth()["orders"], 30)
        return number

    def _inject(self, kind: str, rollout: str) -> None:
        stack = self.stack
        if kind == "crash":
            stack.kill_bot()
        elif kind == "hang":
            stack.freeze("bot")
        elif kind == "blind":
            stack.freeze("prometheus")
        elif kind == "orphan":
            self._place_orphan()
        elif kind == "stop":
            stack.record.submit(stack.account, "stop", {"rollout": rollout, "who": "bench"}, rollout)
        else:
            stack.control("faults", {"kind": kind, "account": stack.account})

    def _place_orphan(self) -> None:
        """An own-looking order that no bot sent, far from the market."""
        access = load_account(self.stack.folder.root, self.stack.account)
        hosts = override_hosts(hosts_for("live", "linear"), {"MM_VENUE_REST_URL": access.rest_url}, rest_only=True)
        with AccountClient(hosts, access.api_key, access.api_secret) as client:
            instrument = client.instrument("BTCUSDT")
            far = instrument.price(instrument.ticks_floor(client.top_of_book("BTCUSDT").bid * Decimal("0.9")))
            client.place_post_only("BTCUSDT", Side.BUY, instrument.qty_min, far, f"slwq-0-{self._turn}")

    def _ended(self, kind: str, number: int) -> Row:
        stack, end = self.stack, time.monotonic() + END_WITHIN_S
        clean_since: float | None = None
        while (run := stack.record.stage_run(number)).step not in FINAL_STEPS:
            if time.monotonic() > end:
                raise NotAsItShould(f"{kind}: still {run.step} after {END_WITHIN_S:g} s\n{stack.tail('guard')}")
            asked_at = time.time()
            clean_since = (clean_since or asked_at) if stack.is_clean() else None
            time.sleep(LOOK_EVERY_S)
        if run.step != ENDS[kind]:
            raise NotAsItShould(f"{kind}: {run.step} by {run.decided_criterion}: {run.decided_why}")
        if clean_since is None or not stack.is_clean():
            raise NotAsItShould(f"{kind}: {run.step} claimed, but the venue shows {stack.truth()}")
        return self._row(kind, run, clean_since)

    def _row(self, kind: str, run: StageRun, clean_since: float) -> Row:
        named = (run.breach_at, run.grant_revoked_at, run.bot_gone_at, run.none_open_at, run.flat_at)
        at = [one.timestamp() for one in named if isinstance(one, datetime)]
        if len(at) < len(named):
            raise NotAsItShould(f"{kind}: {run.step} without every proof: {self.stack.record.timeline(run.id or 0)}")
        breach, revoked, gone, none_open, flat = at
        proven = max(none_open, flat)
        if clean_since > proven + LOOK_EVERY_S + 0.5:
            raise NotAsItShould(f"{kind}: proven {clean_since - proven:.2f} s before the venue showed it")
        return Row(
            kind,
            str(run.decided_criterion),
            revoked - breach,
            gone - breach,
            clean_since - breach,
            proven - breach,
            proven - breach - self.wait_s,
        )


def measured(folder: Path, kinds: Sequence[str], rigs: int) -> tuple[list[Row], list[str], float, float]:
    """Rows, what did not end as it should, the waits and the measuring interval, seconds."""
    made = [Rig(folder / str(number), number) for number in range(rigs)]
    rows, wrong, again, turn = list[Row](), list[str](), list[str](), threading.Lock()
    left = list(kinds)

    def work(rig: Rig) -> None:
        while True:
            with turn:
                if not left:
                    return
                kind = left.pop()
            try:
                row = rig.meet(kind)
            except NotBegun as error:
                with turn:
                    again.append(str(error))
                    if len(again) <= AGAIN_MAX:
                        left.insert(0, kind)
                print(f"not begun, {error}", file=sys.stderr, flush=True)
                continue
            except (NotAsItShould, AssertionError) as error:
                with turn:
                    wrong.append(str(error))
                print(f"{kind}: {error}", file=sys.stderr, flush=True)
                return  # what this account is in now is not known
            with turn:
                rows.append(row)
                print(f"{len(rows)} of {len(kinds)}: {row.kind}, {row.beyond_s:+.2f} s", file=sys.stderr, flush=True)

    try:
        with ThreadPoolExecutor(rigs) as pool:
            list(pool.map(work, made))
    finally:
        for rig in made:
            rig.close()
    if again:
        print(f"{len(again)} rollouts ended before their fault, and the fault was injected into another one")
    if len(rows) < len(kinds):
        wrong.append(f"{len(kinds) - len(rows)} of {len(kinds)} faults were not measured")
    return rows, wrong, made[0].wait_s, made[0].stack.plan.measure_every_s


def table(rows: Sequence[Row], wait_s: float, interval_s: float) -> list[str]:
    lines = [f"{'fault':10}{'n':>4}  {'breach → revoked, s':>24}{'→ venue clean, s':>22}{'→ proven − waits, s':>24}"]
    lines.append(f"{'':14}  " + f"{'p50 p95 worst':>24}{'p50 p95 worst':>22}{'p50 p95 worst':>24}")
    for kind in [*ENDS, "all"]:
        of_kind = [row for row in rows if kind in (row.kind, "all")]
        if of_kind:
            each = [[getattr(row, name) for row in of_kind] for name in ("revoked_s", "clean_s", "beyond_s")]
            shown = [
                " ".join(f"{value:5.2f}" for value in (percentile(one, 0.5), percentile(one, 0.95), max(one)))
                for one in each
            ]
            lines.append(f"{kind:10}{len(of_kind):4}  {shown[0]:>24}{shown[1]:>22}{shown[2]:>24}")
    revoked, beyond = max(row.revoked_s for row in rows), max(row.beyond_s for row in rows)
    for what, value, limit in (
        (f"revoked within {INTERVALS_MAX} measuring intervals", revoked, INTERVALS_MAX * interval_s),
        (f"proven within {BEYOND_WAITS_S_MAX:g} s beyond the waits ({wait_s:g} s)", beyond, BEYOND_WAITS_S_MAX),
    ):
        lines.append(f"{what}: worst {value:.2f} s, wanted ≤ {limit:g} s: {'met' if value <= limit else 'NOT met'}")
    return lines


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.breach")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rigs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    for name, value, most in (("--rounds", args.rounds, 1000), ("--rigs", args.rigs, 8)):
        if not 1 <= value <= most:
            parser.error(f"{name}: {value} is not allowed; allowed: 1 to {most}")
    kinds = list(ENDS) * args.rounds
    random.Random(args.seed).shuffle(kinds)
    with tempfile.TemporaryDirectory(prefix="breach-") as name:
        rows, wrong, wait_s, interval_s = measured(Path(name), kinds, args.rigs)
    if args.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "wrong": wrong}, indent=1))
    elif rows:
        print("\n".join(table(rows, wait_s, interval_s)))
    for one in wrong:
        print(f"NOT as it should: {one.splitlines()[0]}")
    return 1 if wrong or not rows else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
