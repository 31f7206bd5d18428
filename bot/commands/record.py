"""`record FILE`: a venue's public market data into a capture, until the time is over or somebody stops it."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Final

import uvloop

from bot.assembly_paper import feed_of
from bot.capture import CaptureWriter, Header
from bot.domain.events import Event
from bot.resolution import Resolved
from bot.runtime.clock import Clock
from bot.settings_file import ConfigError
from bot.venues.feed import PublicFeed
from bot.venues.port import Sink, VenueError
from bot.version import code_version

DURATION_MAX_S: Final = 31 * 86_400


def record(resolved: Resolved, path: Path, duration: str) -> int:
    """Exit code 0: a capture with a book of every symbol; 1: it lacks one. Raises ConfigError, one line."""
    if not duration.isdecimal() or int(duration) > DURATION_MAX_S:
        raise ConfigError(f"--duration-s: {duration!r} is outside 0 (until stopped) to {DURATION_MAX_S}")
    if path.exists():
        raise ConfigError(f"{path}: is there already; a capture is never overwritten")
    if path.suffix != ".gz":
        raise ConfigError(f"{path}: a capture is gzipped, its name ends in .gz")
    config = resolved.config
    clock = Clock()
    feed = feed_of(resolved, clock.now_ns)
    symbols = config.execution.symbols
    header = Header(1, config.venue.exchange, config.venue.category, symbols, code_version())
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            books, events = runner.run(_record(feed, path, header, int(duration)))
    except VenueError as error:
        raise ConfigError(f"{config.venue.exchange}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
    print(json.dumps({"books": books, "events": events, "file": str(path)}, sort_keys=True))
    return 0 if all(books.values()) else 1


async def _record(feed: PublicFeed, path: Path, header: Header, duration_s: int) -> tuple[dict[str, int], int]:
    """Book messages by symbol, and all events. Signals are taken before the file is begun: from its first byte on
    whoever stops the recording is left a whole one."""
    loop = asyncio.get_running_loop()
    failed: list[BaseException] = []
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with CaptureWriter(path, header) as writer:
        try:
            await feed.start(_stopping_at_failure(writer, failed, stop))
            async with asyncio.timeout(duration_s or None):
                await stop.wait()
        except TimeoutError:
            pass
        finally:
            await feed.close()
        if failed:
            raise failed[0]
    return writer.books, writer.events


def _stopping_at_failure(writer: CaptureWriter, failed: list[BaseException], stop: asyncio.Event) -> Sink:
    """A full disk ends the recording with its reason, whoever was telling at that moment."""

    def take(event: Event) -> None:
        try:
            writer.take(event)
        except OSError as error:
            failed.append(error)
            stop.set()

    return take
