"""The bot, compiled: the same Python files as C extensions, in a folder of their own.

    python infra/compile.py [--into artifacts/compiled] [--opt 2] [--force]

mypyc takes the strict types of the modules below and makes a C extension of each; all others stay as they are. Nothing
is written beside the sources: the folder is a copy of `bot/` with the extensions in it, and whoever puts it first on
PYTHONPATH runs them. A digest of all sources is kept in it, so that it is built anew when one of them has changed, and
never used where it no longer is what the sources say. Needs a C compiler and Python's headers; about a minute.

Enumerations and message types stay interpreted: mypyc makes them no faster, and msgspec reads their annotations.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INTO = ROOT / "artifacts" / "compiled"
DIGEST = "SOURCES"

INTERPRETED = frozenset((
    "bot/domain/events.py", "bot/domain/intent.py", "bot/domain/order.py", "bot/domain/quick_enum.py",
    "bot/domain/strategy_name.py", "bot/domain/told.py", "bot/domain/venue_events.py",
    "bot/simulator/bybit_frame.py", "bot/simulator/recorded.py", "bot/simulator/fault_file.py",
    "bot/simulator/order_terms.py", "bot/simulator/timeline.py",
    "bot/venues/bybit/wire.py", "bot/venues/bybit/hosts.py", "bot/venues/bybit/account_checks.py",
    "bot/venues/bybit/account_client.py", "bot/venues/bybit/account_orders.py",
    "bot/venues/bybit/account_positions.py", "bot/venues/bybit/timed_transport.py",
))  # fmt: skip
"""Not compiled, though their folder is: data alone."""

FOLDERS = ("bot/domain", "bot/engine", "bot/simulator", "bot/venues/bybit")
"""Folders that are compiled whole."""

MODULES = (
    "bot/exports.py", "bot/journal.py", "bot/markouts.py", "bot/runtime/housekeeping.py", "bot/runtime/loop.py",
    "bot/runtime/exporter.py", "bot/runtime/grant.py", "bot/runtime/keys.py", "bot/runtime/kill_switch_start.py",
    "bot/runtime/logs.py", "bot/runtime/own_orders.py", "bot/runtime/process_metrics.py", "bot/runtime/sender.py",
    "bot/runtime/statement.py", "bot/runtime/symbol_filters.py", "bot/simulation.py", "bot/stores/sqlite_store.py",
    "bot/tally.py", "bot/venues/transport.py",
)  # fmt: skip

FLAGS = ("-fvisibility=hidden",)
"""Beside mypyc's own. All modules are one library, whose functions nobody else calls: hidden, they call one another
directly and not through a table, which saves a twelfth of the time of a simulated run. What Python looks for stays
visible by its own mark."""


def modules() -> list[str]:
    """What is compiled, paths from the root."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))]
    names = [str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py"]
    return [name for name in names if name not in INTERPRETED] + list(MODULES)


def digest() -> str:
    """Of every source of the bot, of this file and of the interpreter."""
    whole = hashlib.sha256(sys.version.encode())
    for path in [Path(__file__).resolve(), *sorted((ROOT / "bot").rglob("*.py"))]:
        whole.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def is_built(into: Path) -> bool:
    """Whether what stands there is made of the sources as they are now."""
    try:
        return (into / DIGEST).read_text(encoding="ascii") == digest()
    except OSError:
        return False


def _in_parallel() -> None:
    """setuptools compiles one file after the other; here as many at once as there are processors."""
    from distutils.ccompiler import CCompiler  # type: ignore[import-not-found,unused-ignore]

    def compile_all(
        self: CCompiler, sources: list[str], output_dir: str | None = None, macros: object = None,
        include_dirs: object = None, debug: bool = False, extra_preargs: object = None, extra_postargs: object = None,
        depends: object = None,
    ) -> list[str]:  # fmt: skip
        macros, objects, extra_postargs, pp_opts, build = self._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        cc_args = self._get_cc_args(pp_opts, debug, extra_preargs)

        def one(name: str) -> None:
            if name in build:
                source, ending = build[name]
                self._compile(name, source, ending, cc_args, extra_postargs, pp_opts)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(one, objects))
        return objects

    CCompiler.compile = compile_all


def _compile(folder: Path, opt: str) -> None:
    """Within a copy of the sources."""
    from mypyc.build import mypycify
    from setuptools import setup

    os.chdir(folder)
    _in_parallel()
    extensions = mypycify(
        ["--strict", "--ignore-missing-imports", *modules()], opt_level=opt, debug_level="0",
        multi_file=True,
    )  # fmt: skip
    for extension in extensions:
        extension.extra_compile_args += list(FLAGS)
    setup(name="slipway-compiled", packages=[], ext_modules=extensions, script_args=["-q", "build_ext", "--inplace"])


def missing() -> str:
    """What a build lacks on this machine, empty where nothing."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"{compiler}: no C compiler; on Debian: apt-get install gcc"
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return "" if headers.is_file() else f"{headers}: not there; on Debian: apt-get install python3-dev"


def build(into: Path, opt: str) -> None:
    """Raises SystemExit with one line where it cannot be built; what stood there before is gone then."""
    if lacking := missing():
        raise SystemExit(f"compile: {lacking}")
    if into.exists() and not (into / DIGEST).is_file() and any(into.iterdir()):
        raise SystemExit(f"compile: --into {into}: holds something else; allowed: a new or empty folder, or a build")
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    (into / DIGEST).write_text("unfinished", encoding="ascii")
    shutil.copytree(ROOT / "bot", into / "bot", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (into / "configs").symlink_to(ROOT / "configs")  # the bot looks for its profiles beside itself
    made_of = digest()
    done = subprocess.run(
        [sys.executable, __file__, "--within", str(into), "--opt", opt],
        check=False,
        capture_output=True,
        text=True,
        cwd=into,
    )
    if done.returncode:
        tail = (done.stdout + done.stderr).strip().splitlines()[-25:]
        raise SystemExit("compile: failed\n" + "\n".join(tail))
    shutil.rmtree(into / "build", ignore_errors=True)
    (into / DIGEST).write_text(made_of, encoding="ascii")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python infra/compile.py", description="The bot as C extensions.")
    parser.add_argument("--into", type=Path, default=INTO)
    parser.add_argument("--opt", choices=("0", "1", "2", "3"), default="2", help="level of the C compiler")
    parser.add_argument("--force", action="store_true", help="build although nothing has changed")
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.within:
        _compile(args.within, args.opt)
    elif args.force or not is_built(args.into):
        print(f"compile: {len(modules())} modules", flush=True)
        build(args.into, args.opt)


if __name__ == "__main__":
    main(sys.argv[1:])
