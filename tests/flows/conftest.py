"""One stack for all tests of the flows: each test has its own rollout and account on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flows.prefect_stack import PrefectStack
from tests.support.slack_receiver import Receiver


@pytest.fixture(scope="session")
def prefect_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectStack]:
    """The stack of the session; afterwards it must go down clean.

    Its notices go to a receiver that refuses the first: a failure is where an address would be told.
    """
    receiver = Receiver()
    receiver.refuses = 1
    stack = PrefectStack(tmp_path_factory.mktemp("stack") / "home", receiver)
    try:
        stack.open()
        yield stack
        down = stack.close()
    finally:
        receiver.close()
    assert down.returncode == 0, down.stdout + down.stderr
