"""The console script `rollout`. Exit codes: 0 done or promoted, 1 failed, 2 bad input, 3 rolled back, 4 parked.

Only argparse is imported at the start: `rollout --help` is instant, and each command loads what it needs.
"""

from __future__ import annotations

import argparse
import getpass
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bot.command_line import Parser
from flows.codes import CodeMissing, add_code
from flows.names import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    FAULT_STAGE,
    FAULTS,
    FAULTS_IN_SHADOW,
    FAULTS_PLAN,
    FULL,
    MARKET,
    REAL_PLAN,
    RECORDED_PLAN,
    SMOKE_PLAN,
    STAGES,
)

JSON = "JSON instead of a table"
NEWEST = "its name (default: the newest)"

if TYPE_CHECKING:
    from gates.stages import Plan
    from tasks.record import Record
    from tasks.state_folder import StateFolder


def parser() -> Parser:
    """The whole command line."""
    made = Parser(
        prog="rollout", description="Takes a candidate from shadow to production size, one proven stage at a time."
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="bring the embedded stack up (everything on this machine, one folder)")
    demo = commands.add_parser("demo", help="the whole rollout on the simulated venue, told while it happens")
    for one in (up, demo):
        one.add_argument(
            "--plan", metavar="FILE", help=f"rollout plan (default {SMOKE_PLAN}; on a recorded market {RECORDED_PLAN})"
        )
        one.add_argument(
            "--market", default=MARKET, metavar="MARKET", help="generated, or recorded:PATH (default generated)"
        )
    demo.add_argument("--stage", choices=(*STAGES, FULL), help="one alone (default: full; on a recorded market canary)")
    demo.add_argument(
        "--fault", metavar="KIND[@STAGE]", help=f"make this happen in the watch: {', '.join(FAULTS)} (at the canary)"
    )
    demo.add_argument(
        "--faults", metavar="FILE", help="a plan of link faults to run through, as those in configs/faults"
    )
    demo.add_argument(
        "--sign", choices=("demo", "me"), default="demo", help="who signs: demo approvers, or you in the UI"
    )
    demo.add_argument("--json", action="store_true", help="the result as JSON on stdout, the story on stderr")

    commands.add_parser("down", help="stop trading with proof, then everything else")
    status = commands.add_parser("status", help="what runs, and how each rollout stands")
    status.add_argument("--json", action="store_true", help=JSON)
    stop = commands.add_parser("stop", help="end a rollout now (every open one, if none is named)")
    stop.add_argument("rollout", nargs="?", metavar="ROLLOUT", help="its name (default: every open one)")
    stop.add_argument("--reason", default="stopped by hand", metavar="TEXT", help="why (default: stopped by hand)")
    explain = commands.add_parser("explain", help="why the newest rollout is not promoted, or how it ended")
    explain.add_argument("rollout", nargs="?", metavar="ROLLOUT", help=NEWEST)
    explain.add_argument("--json", action="store_true", help="JSON instead of sentences")
    plan = commands.add_parser("plan", help="what a plan would do, with dates")
    plan.add_argument("--plan", default=SMOKE_PLAN, metavar="FILE", help=f"rollout plan (default {SMOKE_PLAN})")
    plan.add_argument("--json", action="store_true", help=JSON)
    report = commands.add_parser("report", help="one table of a rollout's stages (the newest, if none is named)")
    report.add_argument("rollout", nargs="?", metavar="ROLLOUT", help=NEWEST)
    report.add_argument("--json", action="store_true", help=JSON)
    code = commands.add_parser("code", help="a demo approver's one-time code, on the simulated venue alone")
    code.add_argument("name", metavar="NAME", help="of one of the plan's demo approvers")
    code.add_argument("--plan", default=SMOKE_PLAN, metavar="FILE", help=f"whose approvers (default {SMOKE_PLAN})")
    _add_account(commands)
    _add_attest(commands)
    _add_enroll(commands)
    _add_release(commands)
    _add_sign_off(commands)
    _add_takeover(commands)
    verify = commands.add_parser("verify-record", help="look whether anybody has altered, removed or put in a row")
    verify.add_argument("--account", metavar="NAME", help="venue account (default: every one of the record)")
    verify.add_argument("--head", metavar="HASH", help="of a notice, 12 to 64 letters: finds links removed at the end")
    verify.add_argument("--json", action="store_true", help="JSON instead of a line an account")
    return made


def _add_enroll(commands: argparse._SubParsersAction[Parser]) -> None:
    enroll = commands.add_parser(
        "enroll",
        help="give an approver the secret of their one-time codes, shown once; anew after two others confirmed",
    )
    enroll.add_argument("name", metavar="NAME", help="one of the plan's approvers")
    enroll.add_argument(
        "--confirm", action="store_true", help="say that NAME is to be enrolled anew, as one of the others"
    )
    enroll.add_argument("--by", metavar="NAME", help="who confirms: another approver of the plan, never the author")
    add_code(enroll)
    enroll.add_argument("--plan", default=REAL_PLAN, metavar="FILE", help=f"rollout plan (default {REAL_PLAN})")
    enroll.add_argument("--account", metavar="NAME", help="venue account (default: the only one set up at the venue)")


def _add_account(commands: argparse._SubParsersAction[Parser]) -> None:
    add = commands.add_parser(
        "account",
        help="set up an account at a real venue: look at its key, write its file with tokens of its own",
        description="The key is taken from BYBIT_API_KEY and BYBIT_API_SECRET, else asked for, or read from stdin as "
        "two lines; with SECRETS_BACKEND it stays there. MM_VENUE_GATEWAY, where it is set, is the way to the venue.",
    )
    add.add_argument("action", choices=("add",), help="what to do with it")
    add.add_argument("name", metavar="NAME", help="what it is called from now on, as in --param account=NAME")
    add.add_argument("--venue", choices=("bybit",), default="bybit", help="where it is (default: bybit)")
    add.add_argument("--env", choices=("testnet", "live"), required=True, help="whose key it is, and so which stages")


def _add_release(commands: argparse._SubParsersAction[Parser]) -> None:
    ask = commands.add_parser("resume-request", help="ask to have a held bot resumed; a second person confirms it")
    ask.add_argument("--stop", default="*", metavar="REASON", help="which stop (default: every one that holds)")
    confirm = commands.add_parser("resume-confirm", help="confirm what another person has asked to have resumed")
    confirm.add_argument("request", metavar="REQUEST", help="what resume-request printed")
    for one in (ask, confirm):
        one.add_argument("--by", required=True, metavar="NAME", help="who says so: an approver of the plan, no author")
        add_code(one)
        one.add_argument("--comment", default="", metavar="TEXT", help="why, at most 200 characters (default: none)")
        one.add_argument("--re-arm", action="store_true", help="one that has HALTED, with the consent it needs of both")
        one.add_argument("--rollout", metavar="ROLLOUT", help="whose bot (default: the only rollout that is open)")


def _add_takeover(commands: argparse._SubParsersAction[Parser]) -> None:
    take = commands.add_parser("takeover", help="have this machine's guard take an account from a machine that is off")
    take.add_argument("account", metavar="ACCOUNT", help="venue account that the other machine's guard holds")
    take.add_argument(
        "--off", required=True, metavar="MACHINE", help="its name: you have made sure that it is switched off"
    )
    take.add_argument("--reason", default="", metavar="TEXT", help="why, at most 200 characters (default: none)")


def _add_sign_off(commands: argparse._SubParsersAction[Parser]) -> None:
    sign = commands.add_parser("sign-off", help="sign GO or NO-GO at a gate of a rollout's open stage")
    sign.add_argument("rollout", metavar="ROLLOUT", help="its name")
    sign.add_argument("--gate", required=True, choices=("entry", "exit"), help="into the stage, or out of it")
    sign.add_argument(
        "--by", required=True, metavar="PERSON", help="who signs: an approver of the plan, never the author"
    )
    sign.add_argument("--decision", required=True, choices=("GO", "NO-GO"), help="NO-GO ends the stage")
    add_code(sign)
    sign.add_argument("--evidence", required=True, metavar="PREFIX", help="first six letters of its digest")
    sign.add_argument("--comment", default="", metavar="TEXT", help="at most 2000 characters (default: none)")


def _add_attest(commands: argparse._SubParsersAction[Parser]) -> None:
    attest = commands.add_parser(
        "attest", help="say that an item of the checklist holds, with evidence (without ITEM: list what is missing)"
    )
    attest.add_argument("item", nargs="?", metavar="ITEM", help="an attestation of the plan's checklists")
    attest.add_argument("--by", metavar="NAME", help="who says so: an approver of the plan, never the author")
    add_code(attest)
    attest.add_argument("--evidence", metavar="FILE", help="what was looked at, 1 to 50000000 bytes; a copy is kept")
    attest.add_argument("--comment", default="", metavar="TEXT", help="at most 2000 characters (default: none)")
    attest.add_argument("--plan", default=REAL_PLAN, metavar="FILE", help=f"rollout plan (default {REAL_PLAN})")
    attest.add_argument("--rollout", metavar="ROLLOUT", help="a known rollout's candidate instead of the plan's, now")
    attest.add_argument("--account", metavar="NAME", help="venue account (default: the only one set up at the venue)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; what a person did wrong is one line on stderr and exit code 2."""
    options = parser().parse_args(argv)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough; nothing more is to be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _run(options: argparse.Namespace) -> int:
    from bot.settings_file import ConfigError
    from gates.approvers import ApproversError
    from gates.criteria import CriteriaError
    from gates.stages import PlanError
    from tasks.notify import WebhookUnusable
    from tasks.record import RecordError
    from tasks.sign_off import SeedsError
    from tasks.state_folder import StateFolder, StateFolderUnusable
    from tasks.supervise.prometheus import PrometheusUnusable
    from tasks.supervise.table import TableDamaged

    files = (
        CodeMissing,
        PlanError,
        CriteriaError,
        ApproversError,
        ConfigError,
        SeedsError,
        RecordError,
        TableDamaged,
        WebhookUnusable,
    )
    try:
        folder = StateFolder.here()
        if options.command in ("up", "demo", "down"):
            return _stack_command(folder, options)
        return _record_command(folder, options)
    except (*files, PrometheusUnusable, StateFolderUnusable) as error:
        return _refuse(str(error))


def _stack_command(folder: StateFolder, options: argparse.Namespace) -> int:
    from flows.accounts import wrong_venue
    from flows.stack import down
    from tasks.supervise.client import StackError

    def say(text: str) -> None:
        print(text, flush=True)

    if options.command == "down":
        return 0 if down(folder, _who(), say) else EXIT_FAILED
    from flows.stack import plan_of

    plan, plan_file = plan_of(options.plan or _usual_plan(options))
    if (wrong := wrong_venue(folder, plan, options)) is not None:
        return _refuse(wrong)
    if options.command == "demo":
        options.stage = options.stage or (FULL if options.market == MARKET and not options.faults else FAULT_STAGE)
        for one in _wished(options, plan):
            plan.stage(one)  # a stage that the plan lacks, or cannot run, is refused before anything starts
    if (wrong := _market_wrong(options) or _fault_wrong(options, plan)) is not None:
        return _refuse(wrong)
    try:
        if options.command == "demo":
            from flows.demo_command import run_demo

            return run_demo(folder, options, plan, plan_file)
        from flows.stack import say_how_to_begin, up

        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: a start broken off leaves nothing
        say_how_to_begin(folder, up(folder, plan_file, options.market, say), plan, plan_file, say)
    except StackError as error:
        from tasks.bundle import save_bundle

        print(f"rollout: {error}", file=sys.stderr)
        print(f"bundle: {save_bundle(folder, str(error))}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _wished(options: argparse.Namespace, plan: Plan) -> tuple[str, ...]:
    """The stages to go through: one, or all that the plan has."""
    return tuple(one.id for one in plan.stages) if options.stage == FULL else (options.stage,)


def _fault_wrong(options: argparse.Namespace, plan: Plan) -> str | None:
    """Why the fault cannot be made to happen; None where it can, or none is wished."""
    if getattr(options, "fault", None) is None:
        return None
    kind, sign, stage = str(options.fault).partition("@")
    if kind not in FAULTS:
        return f"--fault: {kind!r}; allowed: {', '.join(FAULTS)}, each alone or as KIND@STAGE"
    stage = stage if sign else (FAULT_STAGE if options.stage == FULL else options.stage)
    allowed = _wished(options, plan)
    if stage not in allowed:
        return f"--fault: stage {stage!r}; allowed: {', '.join(allowed)}"
    if stage == "shadow" and kind not in FAULTS_IN_SHADOW:
        return f"--fault: {kind} at shadow, where no order leaves; allowed there: {', '.join(FAULTS_IN_SHADOW)}"
    return None


def _usual_plan(options: argparse.Namespace) -> str:
    if options.market != MARKET:
        return RECORDED_PLAN
    return FAULTS_PLAN if getattr(options, "faults", None) else SMOKE_PLAN


def _market_wrong(options: argparse.Namespace) -> str | None:
    """Why the market cannot be used; None where it can. A recorded one is named absolutely from here on."""
    from pathlib import Path

    kind, _, path = str(options.market).partition(":")
    if options.market == MARKET:
        return None
    if kind != "recorded" or not path:
        return f"--market: {options.market!r}; allowed: generated, or recorded:PATH"
    captures = sorted(Path(path).glob("*.gz")) if Path(path).is_dir() else [Path(path)]
    if not captures or not captures[0].exists():
        found = "no .gz file in it" if Path(path).exists() else "no such file or folder"
        return f"--market: {path}: {found}; allowed: a capture or a folder of them"
    for capture in captures:
        with capture.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                return f"--market: {capture}: not a gzip file; allowed: captures, each compressed by gzip"
    options.market = f"recorded:{Path(path).resolve()}"
    return None


def _record_command(folder: StateFolder, options: argparse.Namespace) -> int:
    from sqlalchemy.exc import DBAPIError

    from flows import status
    from tasks.record_engine import RecordDamaged, without_password

    if options.command == "account":
        from flows.accounts import add

        return add(folder, options.name, options.venue, options.env)
    if options.command == "code":
        return _code(folder, options)
    if options.command == "plan":
        from flows.plan_view import print_plan
        from flows.stack import plan_of

        return print_plan(*plan_of(options.plan), as_json=options.json)
    record = _record(folder)
    try:
        if options.command == "attest":
            return _attest(folder, record, options)
        if options.command == "enroll":
            return _enroll(folder, record, options)
        if options.command in ("resume-request", "resume-confirm"):
            return _release(record, options)
        if options.command == "takeover":
            return _take_over(record, options)
        if options.command == "status":
            return status.print_status(folder, record, as_json=options.json)
        if options.command == "verify-record":
            return _verify(record, options)
        if options.rollout is not None and (record is None or not record.stage_runs(rollout=options.rollout)):
            known = ", ".join(one.name for one in record.rollouts(status.ROLLOUTS_SHOWN)) if record else ""
            said = f"rollout {options.rollout!r} is not known; allowed: {known or 'none has been started yet'}"
            if record is not None and options.command == "stop" and _is_name(options.rollout):
                # It may be meant for one that has not begun yet. Without a name it would be a stop of all of them.
                record.submit_stop_of_what_begins(options.rollout, _who(), options.reason)
                said += "; a run of that name that is queued begins nothing"
            return _refuse(said)
        if record is None:
            return status.none_yet(as_json=getattr(options, "json", False))
        if options.command == "sign-off":
            return _sign_off(record, options)
        if options.command == "stop":
            return status.stop(folder, record, options.rollout, _who(), options.reason)
        if options.command == "report":
            return status.report(record, options.rollout, as_json=options.json)
        return status.explain(record, options.rollout, as_json=options.json)
    except RecordDamaged as error:
        print(f"rollout: record {without_password(folder.record_url)}: cannot be used: {error}", file=sys.stderr)
        return EXIT_FAILED
    except DBAPIError as error:  # it could be opened, and is locked or gone since
        said = f"record {without_password(folder.record_url)}: cannot be used now: {str(error).splitlines()[0]}"
        print(f"rollout: {said}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        if record is not None:
            record.close()


def _is_name(text: str) -> bool:
    from tasks.names import NameRefused, check_name

    try:
        return bool(check_name("rollout", text))
    except NameRefused:
        return False


def _record(folder: StateFolder) -> Record | None:
    """The record; None where none has been written yet. Raises RecordError, and makes none where one was named."""
    if not folder.record.exists() and not os.environ.get("SLIPWAY_RECORD_URL"):
        return None
    from tasks.record import RecordError, open_record
    from tasks.record_engine import sqlite_file

    file = sqlite_file(folder.record_url)
    if file is not None and not file.exists():
        raise RecordError(f"record {folder.record_url}: no such file; allowed: the record that a guard writes")
    return open_record(folder.record_url)


def _code(folder: StateFolder, options: argparse.Namespace) -> int:
    from flows.accounts import wrong_venue
    from flows.stack import plan_of
    from gates.approvers import load_approvers
    from gates.stages import under_root
    from tasks.sign_off import demo_code

    plan, _ = plan_of(options.plan)
    if (wrong := wrong_venue(folder, plan, options)) is not None:
        return _refuse(wrong)
    print(demo_code(folder.seeds, options.name, load_approvers(under_root(plan.approvers)), plan.venue))
    return 0


def _attest(folder: StateFolder, record: Record | None, options: argparse.Namespace) -> int:
    from pathlib import Path

    from flows.attesting import CannotAttest, Spoken, about, attest, print_asked
    from flows.stack import plan_of

    known = None if options.rollout is None or record is None else record.rollout(options.rollout)
    if options.rollout is not None and known is None:
        return _refuse(f"rollout {options.rollout!r} is not known")
    spoken = Spoken(
        options.item, options.by, options.code, Path(options.evidence) if options.evidence else None, options.comment
    )
    try:
        of = about(folder, plan_of(options.plan)[1], known, options.account)
        if spoken.item is None:
            return print_asked(record, of)
        if record is None:
            return _refuse(f"attest {spoken.item}: no guard has written a record yet; allowed: with a guard running")
        return attest(folder, record, of, spoken)
    except CannotAttest as error:
        return _refuse(str(error))


def _enroll(folder: StateFolder, record: Record | None, options: argparse.Namespace) -> int:
    from flows.enrolling import CannotEnroll, Wanted, enroll
    from flows.stack import plan_of

    plan, path = plan_of(options.plan)
    wanted = Wanted(options.name, plan, path, options.account, options.confirm, options.by, options.code)
    try:
        return enroll(folder, record, wanted)
    except CannotEnroll as error:
        return _refuse(str(error))


def _release(record: Record | None, options: argparse.Namespace) -> int:
    from flows.releasing import CannotRelease, Wanted, release

    given = (getattr(options, "request", None), options.by, options.code, options.comment)
    wanted = Wanted(*given, getattr(options, "stop", "*"), options.re_arm, options.rollout)
    try:
        return release(record, wanted)
    except CannotRelease as error:
        return _refuse(str(error))


def _take_over(record: Record | None, options: argparse.Namespace) -> int:
    from flows.taking_over import CannotTakeOver, take_over

    try:
        return take_over(record, options.account, options.off, _who(), options.reason)
    except CannotTakeOver as error:
        return _refuse(str(error))


def _sign_off(record: Record, options: argparse.Namespace) -> int:
    from flows.signing import CannotSign, Signing, sign_off

    given = Signing(options.gate, options.by, options.decision, options.code, options.evidence, options.comment)
    try:
        return sign_off(record, options.rollout, given)
    except CannotSign as error:
        return _refuse(str(error))


def _verify(record: Record | None, options: argparse.Namespace) -> int:
    from flows.verifying import CannotVerify, print_verified

    if record is None:
        return _refuse("verify-record: no record has been written yet; allowed: once a rollout has been started")
    try:
        return print_verified(record, options.account, options.head, as_json=options.json)
    except CannotVerify as error:
        return _refuse(str(error))


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        return "somebody"


def _refuse(message: str) -> int:
    print(f"rollout: {message}", file=sys.stderr)
    return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
