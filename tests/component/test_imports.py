"""What the guard's process and the gates load, and what they must never load."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = (
    "prefect",
    "pandas",
    "matplotlib",
    "great_expectations",
    "alembic",
    "numpy",
    "bot.simulator",
    "aiohttp",
    "boto3",
    "rich",
)


def test_the_guard_loads_neither_prefect_nor_anything_heavy() -> None:
    code = (
        "import sys, tasks.guard.__main__, bot.venues.bybit.account_client, bot.runtime.kill_switch\n"
        f"print([name for name in {FORBIDDEN!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_gates_load_nothing_heavy() -> None:
    code = (
        "import sys, gates.lint, gates.decision, gates.course, gates.sources.checks, gates.__main__;"
        "print([m for m in ('pandas', 'numpy', 'great_expectations', 'prefect', 'sqlmodel') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_kill_switch_loads_nothing_of_the_engine() -> None:
    code = (
        "import sys, bot.runtime.kill_switch\n"
        "print([name for name in sys.modules if name.startswith(('bot.engine', 'gates', 'tasks', 'flows'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
