"""Real processes for the integration tests, each test in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guard_stack import GuardStack
from tests.support.judged_venue import JudgedVenue
from tests.support.migrated import migrated_once

__all__ = ["guard_stack", "judged_venue", "migrated_once"]


@pytest.fixture
def guard_stack(tmp_path: Path) -> Iterator[GuardStack]:
    """Venue, Prometheus and guard, running; nothing of them is left afterwards."""
    stack = GuardStack(tmp_path / "home")
    try:
        stack.start_guard()
        yield stack
    finally:
        stack.close()


@pytest.fixture(scope="module")
def judged_venue() -> Iterator[JudgedVenue]:
    """A simulated venue on loopback for strangers' clients."""
    venue = JudgedVenue()
    try:
        yield venue
    finally:
        venue.close()
