"""A process that was just started can be found by the mark it carries."""

from __future__ import annotations

from pathlib import Path

from tasks.supervise.identity import MARK, spawn

TIMES = 150
"""Where nobody waits for it, about one look in fifteen comes before the kernel shows what the child carries."""


def test_what_a_child_carries_is_seen_as_soon_as_it_is_started(tmp_path: Path) -> None:
    for number in range(TIMES):
        child = spawn(("/bin/sleep", "600"), {MARK: "abcd"}, tmp_path / "log", tmp_path)
        try:
            assert Path(f"/proc/{child.pid}/environ").read_bytes() == f"{MARK}=abcd\0".encode(), f"start {number}"
        finally:
            child.kill()
            child.wait(5)
