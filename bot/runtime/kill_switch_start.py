"""Starting the kill switch from a bot that halts: a process of its own, tried for until it was started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from bot.domain.instrument import Category
from bot.runtime.logs import JsonLog
from bot.runtime.secrets import without_tokens

NAME: Final = "bot.runtime.kill_switch_start"


class KillSwitchStart:
    """Asked for once a halt; what keeps it from being started is logged, and it is tried again at every turn.

    `publish`: starts it; raises OSError where it cannot be started now.
    """

    def __init__(self, publish: Callable[[str], None], log: JsonLog) -> None:
        self._publish = publish
        self._log = log
        self._due = ""
        """why it has to be started; empty: it has not"""
        self._said = ""
        """what kept it from being started, as last logged"""

    def ask(self, reason: str) -> None:
        """Starts it now, or at the first turn that can. Raises nothing for what a system out of anything can do."""
        self._log.write("ERROR", NAME, "kill_switch_published", {"reason": reason})
        self._due = reason
        self.turn()

    def turn(self) -> None:
        """Tries again where it could not be started so far."""
        if not self._due:
            return
        try:
            self._publish(self._due)
        except OSError as error:
            message = f"{type(error).__name__}: {error}"
            if message != self._said:
                self._said = message
                self._log.write("ERROR", NAME, "kill_switch_not_started", {"reason": self._due, "message": message})
            return
        if self._said:
            self._log.write("WARNING", NAME, "kill_switch_started", {"reason": self._due})
        self._due = self._said = ""

    def last_turn(self) -> None:
        """Tries once more as the process ends. Where it still cannot be started, that is the last thing said of it."""
        self.turn()
        if self._due:
            fields = {"reason": self._due, "message": self._said}
            self._log.write("ERROR", NAME, "kill_switch_never_started", fields)


def kill_switch_publisher(
    symbols: tuple[str, ...],
    category: Category,
    folder: Path,
    environment: dict[str, str],
    foreign_orders: str,
    receive_window_ms: int,
    gateway: str,
    log: JsonLog,
) -> Callable[[str], None]:
    """Starts the kill-switch process, in a session of its own so that it outlives this one; one at a time.

    It goes on until it is proven, however long the venue stays away: nobody would start it a second time. What it says
    goes to a file in `folder`, or nowhere where that cannot be opened.

    `folder`: this run's, with its journal. `environment`: with the EXCHANGE_ENV that this process trades at, which
    flags may have chosen. `gateway`: the signed one, empty for none. The start raises OSError where there is none.
    """
    running: list[subprocess.Popen[bytes]] = []
    late_s = receive_window_ms / 1000  # a bot that halts sends nothing more, whatever its grant

    def start(output: int | IO[bytes]) -> None:
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "bot", "kill-switch", "--execute", "--symbols", ",".join(symbols),
                 "--category", category, "--foreign-orders", foreign_orders, "--journal", str(folder),
                 "--late-s", str(late_s), "--deadline-s", "0", "--gateway", gateway,
                 "--report", str(folder / "kill_switch.json")],
                env=without_tokens(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )
        )  # fmt: skip

    def publish(_reason: str) -> None:
        if running and running[-1].poll() is None:
            return
        try:
            output = (folder / "kill_switch.log").open("ab")
        except OSError as error:  # a kill switch that nobody hears is better than none
            start(subprocess.DEVNULL)
            log.write("WARNING", NAME, "kill_switch_unheard", {"message": f"{type(error).__name__}: {error}"})
            return
        with output:
            start(output)

    return publish
