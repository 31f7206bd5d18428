"""The frame around a demo run: what happens on Ctrl-C and on a failure, so that nothing is ever left behind unseen."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import httpx

from flows.demo import Demo, DemoFailed, Wish
from flows.demo_faults import FaultNotInjected
from flows.demo_view import View
from flows.names import EXIT_FAILED, EXIT_INTERRUPTED, FAULT_STAGE, FULL
from flows.stack import down
from gates.stages import Plan
from tasks.bundle import save_bundle
from tasks.record import RecordError
from tasks.sign_off import SeedsError
from tasks.simulated_account import VenueUnreachable
from tasks.state_folder import StateFolder
from tasks.supervise.client import StackError
from tasks.supervise.takedown import stop_trading

FAILURES = (
    DemoFailed,
    FaultNotInjected,
    StackError,
    RecordError,
    SeedsError,
    VenueUnreachable,
    httpx.HTTPError,
)


def run_demo(folder: StateFolder, options: argparse.Namespace, plan: Plan, plan_file: Path) -> int:
    """Runs it. Ctrl-C or SIGTERM: trading is stopped with proof and the stack taken down; exit 130."""
    wish = wish_of(options, plan, plan_file)
    view = View(sys.stderr if options.json else sys.stdout)
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background job has it ignored
        signal.signal(number, signal.default_int_handler)
    try:
        return _run(folder, wish, view)
    except KeyboardInterrupt:
        return _interrupted(folder, view)


def wish_of(options: argparse.Namespace, plan: Plan, plan_file: Path) -> Wish:
    """What the command line asks for. A fault without a stage happens at the stage that is run, in all five at the
    canary."""
    fault, _, at = (options.fault or "").partition("@")
    fault_stage = at or (FAULT_STAGE if options.stage == FULL else options.stage)
    return Wish(
        plan,
        plan_file,
        options.market,
        options.stage,
        fault or None,
        fault_stage,
        signs_me=options.sign == "me",
        as_json=options.json,
        faults=Path(options.faults) if options.faults else None,
    )


def _run(folder: StateFolder, wish: Wish, view: View) -> int:
    try:
        return Demo(folder, wish, view).run()
    except FAILURES as error:
        return _failed(folder, view, str(error) or type(error).__name__)


def _interrupted(folder: StateFolder, view: View) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the way down is not interrupted half-way
    view.line("interrupted: stopping trading, then the stack", "stop")
    clean = down(folder, "Ctrl-C", lambda text: view.line(text, "stop"))
    view.raw("INTERRUPTED: " + ("nothing is left running." if clean else "NOT everything could be proven stopped."))
    return EXIT_INTERRUPTED


def _failed(folder: StateFolder, view: View, why: str) -> int:
    view.line(why, "FAILED")
    bundle = save_bundle(folder, why)
    stopped = stop_trading(folder, "rollout demo", "the demo failed", lambda text: view.line(text, "stop"))
    view.raw(f"bundle: {bundle}")
    view.raw(f"FAILED: {why}" + ("" if stopped else "; NOT everything could be proven stopped"))
    return EXIT_FAILED
