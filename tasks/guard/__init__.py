"""The guard: one supervised process per venue account that owns the bot's permission to trade. No Prefect in it."""

import sys
from types import ModuleType
from typing import cast


def _load_httpx_alone() -> None:
    """httpx loads its own command line wherever click is there, and Prefect brings it: 2.6 MB that no guard uses."""
    click = sys.modules.get("click")
    sys.modules["click"] = cast(ModuleType, None)  # an import of it fails now, as if it were not installed
    try:
        import httpx  # noqa: F401
    finally:
        del sys.modules["click"]
        if click is not None:
            sys.modules["click"] = click


_load_httpx_alone()
