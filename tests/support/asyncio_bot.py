"""`mm-bot` on the loop of the standard library, which is what a machine without uvloop would run it on."""

from __future__ import annotations

import asyncio

import uvloop

from bot.__main__ import main

uvloop.new_event_loop = asyncio.new_event_loop  # type: ignore[assignment]

if __name__ == "__main__":
    raise SystemExit(main())
