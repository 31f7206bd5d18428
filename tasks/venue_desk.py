"""The venue account as closing and preflight need it: the kill switch and plain reads, on threads, without the bot.

The kill switch runs in the guard's process because starting one costs a second of the five a rollback has; the same
code is `mm-bot kill-switch` for a watchdog or a person. A call that fails raises DeskError and says nothing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bot.runtime.secrets import SecretMissing, SecretsUnreadable
from bot.venues.port import VenueError, VenueGarbled
from tasks.account_file import AccountAccess, AccountFileError
from tasks.rollback import DeskError, OpenOrders

if TYPE_CHECKING:
    from bot.runtime.kill_switch_report import FlattenSent, Report
    from bot.venues.bybit.account_client import AccountClient
    from bot.venues.bybit.hosts import BybitHosts
    from tasks.account_keys import AccountKeys

T = TypeVar("T")
CANCEL_DEADLINE_S = 5.0
FLATTEN_DEADLINE_S = 8.0
"""Of one run: none of its calls goes on after that. At a venue a third of a second away it is proven by then, also
where what a dead bot had out is cancelled one by one first. Were it shorter, every try would be, and none prove it."""


class VenueDesk:
    """One account at one venue. Orders are those of the whole account, positions those of `symbols`. Close it.

    `state_dir`: of the bot's run, whose journal says what it sent; None: there is none. `access` is asked at the first
    call, and again after it raised AccountFileError: a file may be put back. The key is asked for then, and anew where
    the venue refuses it.
    """

    def __init__(
        self, access: Callable[[], AccountAccess], symbols: Sequence[str], state_dir: Path | None = None
    ) -> None:
        self._access = access
        self._symbols = tuple(symbols)
        self._state_dir = state_dir
        self._client: AccountClient | None = None
        self._opening = threading.Lock()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    async def cancel_all(self) -> str:
        """Cancel-all of own orders, repeated until two reads show none. Returns how many the venue cancelled."""
        return await self._kill_switch(flatten=False, deadline_s=CANCEL_DEADLINE_S)

    async def flatten(self, sent: Callable[[Sequence[FlattenSent]], None]) -> str:
        """The same, and reduce-only slices inside the band until two reads show flat. `sent` is told of them, also
        where it then raises."""
        return await self._kill_switch(flatten=True, deadline_s=FLATTEN_DEADLINE_S, sent=sent)

    async def reduce(self, symbol: str, qty: Decimal) -> str:
        """One reduce-only slice of that position (signed, base) towards flat, and no cancel: beside a bot that runs.

        What it did the next read of positions tells. Raises DeskError, also where less than one lot is left.
        """
        from bot.runtime.kill_switch import slice_towards_flat
        from bot.runtime.kill_switch_report import Attempt
        from bot.venues.port import Position

        name = Attempt(time.time_ns(), lambda _line: None).next_flatten_id()
        held = Position(symbol, qty, Decimal(0))

        def place(client: AccountClient) -> str:
            order = slice_towards_flat(client, held, name)
            if order is None:
                raise DeskError(f"position of {symbol} is {qty}, less than one lot")
            client.place_immediate(order)
            return f"{order.side.value} {order.qty} reduce-only as {name}"

        return await self._read(place)

    async def read_open(self) -> OpenOrders:
        from bot.domain.order import OWN_PREFIX

        orders = await self._read(lambda client: client.open_orders(()))
        own = sum(order.client_order_id.startswith(OWN_PREFIX) for order in orders)
        return OpenOrders(own=own, foreign=len(orders) - own)

    async def read_positions(self) -> Mapping[str, Decimal]:
        positions = await self._read(lambda client: client.positions(self._symbols))
        found = {position.symbol: position.qty for position in positions}
        return {symbol: found.get(symbol, Decimal(0)) for symbol in self._symbols}

    async def read(self, ask: Callable[[AccountClient], T]) -> T:
        """Any other read of the account client, for preflight. Raises DeskError."""
        return await self._read(ask)

    async def kill_switch(
        self, *, execute: bool = True, flatten: bool = False, deadline_s: float = CANCEL_DEADLINE_S
    ) -> Report:
        """One run of it, and what it proved; without `execute` it only looks. Never raises for what a venue can do."""
        from bot.runtime.kill_switch import KillSwitch
        from bot.runtime.written_orders import orders_that_may_stand

        known = partial(orders_that_may_stand, [] if self._state_dir is None else [self._state_dir])
        offset_ns = time.time_ns() - time.monotonic_ns()

        def work() -> Report:
            # What comes late is waited for by whoever asks for the proof: flattening must not wait for it.
            switch = KillSwitch(self._open(), (), late_s=0.0, known=known, positions_of=self._symbols)
            return switch.run(execute, flatten, deadline_s, lambda: offset_ns + time.monotonic_ns(), time.sleep)

        return await asyncio.to_thread(work)

    async def _kill_switch(
        self, *, flatten: bool, deadline_s: float, sent: Callable[[Sequence[FlattenSent]], None] = lambda _: None
    ) -> str:
        report = await self.kill_switch(flatten=flatten, deadline_s=deadline_s)
        sent(report.flattens)
        if report.status != "executed":
            raise DeskError(f"kill switch: {'; '.join(report.errors)}")
        return f"kill switch {report.status}: {report.cancelled} cancelled, {len(report.reads)} reads"

    async def _read(self, ask: Callable[[AccountClient], T]) -> T:
        try:
            return await asyncio.to_thread(lambda: ask(self._open()))
        except VenueError as error:
            raise DeskError(f"{type(error).__name__}: {error}") from error

    def _open(self) -> AccountClient:
        """On a thread: a key may have to be fetched."""
        with self._opening:
            return self._opened()

    def _opened(self) -> AccountClient:
        if self._client is None:
            from bot.venues.bybit.account_client import AccountClient
            from bot.venues.bybit.hosts import HostRefused

            try:
                access = self._access()
                hosts = access.hosts(rest_only=True)
            except (AccountFileError, HostRefused) as error:
                raise DeskError(str(error)) from error
            if access.keys is None:
                self._client = AccountClient(hosts, access.api_key, access.api_secret)
            else:
                self._client = _backed(hosts, access.keys)
        return self._client


def _backed(hosts: BybitHosts, keys: AccountKeys) -> AccountClient:
    """With the key that the backend holds, now and after each refusal. Raises DeskError where there is none."""
    from bot.venues.bybit.account_client import AccountClient

    def opens(key: str, secret: str) -> str:
        with AccountClient(hosts, key, secret) as client:
            user = client.key_information().user_id
        if not user:
            raise VenueGarbled("query-api: userID is missing")
        return str(user)

    try:
        key, secret = keys.current(opens)
    except (SecretMissing, SecretsUnreadable) as error:
        raise DeskError(str(error)) from error
    return AccountClient(hosts, key, secret, renew_key=lambda: keys.after_refusal(opens))
