"""One stack for all tests of the flows: each test has its own rollout and account on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flows.prefect_stack import PrefectStack


@pytest.fixture(scope="session")
def prefect_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectStack]:
    """The stack of the session; afterwards it must go down clean."""
    stack = PrefectStack(tmp_path_factory.mktemp("stack") / "home")
    stack.open()
    yield stack
    down = stack.close()
    assert down.returncode == 0, down.stdout + down.stderr
