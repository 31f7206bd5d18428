"""Two stacks that come up at the same moment choose different ports, though nobody listens on any of them yet."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys

CHOOSE = """
import sys
from tasks.supervise.ports import usual_or_free
print(usual_or_free(int(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def _choosing(usual: int) -> subprocess.Popen[str]:
    """Another stack: it chooses, says what, and holds it until its input ends."""
    words = [sys.executable, "-c", CHOOSE, str(usual)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _said(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def _free() -> int:
    """Below those that the kernel hands out: nobody else is given it while three interpreters start."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def test_a_port_that_one_stack_chose_is_chosen_by_no_other_until_it_is_gone() -> None:
    usual = _free()
    with _choosing(usual) as first:
        assert _said(first) == usual
        with _choosing(usual) as second:
            assert _said(second) != usual
        first.kill()
    with _choosing(usual) as third:
        assert _said(third) == usual, "what was killed claims nothing"


def test_a_port_on_which_somebody_listens_is_left_to_them() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        with _choosing(port) as stack:
            assert _said(stack) != port
