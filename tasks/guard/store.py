"""The record, seen from the event loop: every call runs on one thread of its own, so no write can hold up a grant."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from tasks.record_tables import RollbackStep
from tasks.record_writer import Notice, RecordWriter

log = logging.getLogger("slipway.guard.store")
P = ParamSpec("P")
T = TypeVar("T")
Telling = Callable[[Sequence[Notice], Callable[[Sequence[Notice]], object]], Callable[[], None]]
RETRY_S = 0.5


class Store:
    """Calls on the record, one at a time and in order."""

    def __init__(self, record: RecordWriter) -> None:
        self.record = record
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")
        self._told: asyncio.Queue[tuple[str, Callable[[], object]]] = asyncio.Queue()
        self._trying_since_s: float | None = None

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `function` on the record's thread. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))

    def tell(self, what: str, function: Callable[[], object]) -> None:
        """Writes in the background, in the order told: a safety step never waits for the record. See `write_told`."""
        self._told.put_nowait((what, function))

    async def write_told(self) -> None:
        """Runs for ever: each thing told is tried until the record takes it, then the next."""
        while True:
            what, function = await self._told.get()
            self._trying_since_s = time.monotonic()
            warned = False
            while True:
                try:
                    await self.call(function)
                    break
                except SQLAlchemyError as error:
                    if not warned:
                        log.error("record does not take %s: %s; trying on", what, str(error).splitlines()[0])
                        warned = True
                await asyncio.sleep(RETRY_S)
            self._trying_since_s = None
            self._told.task_done()

    def away_s(self) -> float:
        """For how long what was told first has not been taken, whether the record refuses or does not answer."""
        return 0.0 if self._trying_since_s is None else time.monotonic() - self._trying_since_s

    @property
    def behind(self) -> bool:
        """Whether something that was told is not written yet."""
        return not self._told.empty() or self._trying_since_s is not None

    async def written(self) -> None:
        """Returns when everything told before this call is written; what is told later holds it up no longer."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        self.tell("what was told", lambda: loop.call_soon_threadsafe(done.set))
        await done.wait()

    async def written_within(self, deadline_s: float) -> bool:
        """Whether everything told before this call is written in that time."""
        try:
            await asyncio.wait_for(self.written(), deadline_s)
        except TimeoutError:
            return False
        return True

    async def settled(self) -> None:
        """Returns when everything told so far is written."""
        await self._told.join()

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self.record.close()


class StepRecorder:
    """Writes the steps of a closing and the times they prove, without holding the steps up."""

    def __init__(
        self, store: Store, stage_run_id: int, on_step: Callable[[RollbackStep], Sequence[Notice]], telling: Telling
    ) -> None:
        """`on_step` shows a step and says what is told with it; `telling` makes one write of both."""
        self._store, self._telling = store, telling
        self._stage_run_id = stage_run_id
        self._on_step = on_step
        self._rows: dict[int, RollbackStep] = {}

    @property
    def rows(self) -> Sequence[RollbackStep]:
        """Each step as it was last written here, or is about to be."""
        return tuple(self._rows.values())

    async def write(self, row: RollbackStep, **times: datetime) -> None:
        copy = RollbackStep(**row.model_dump(exclude={"id"}))
        self._rows[row.number] = RollbackStep(**row.model_dump(exclude={"id"}))
        record, told = self._store.record, self._on_step(row)

        def write(notices: Sequence[Notice]) -> None:
            if times:
                record.change_stage_run(self._stage_run_id, "proven", **times)
            record.write_rollback_step(copy, notices)

        self._store.tell(f"step {row.name}", self._telling(told, write))
