"""The adapter's decoder under messages that are almost right: fields missing, renamed, of other types, other bytes.

Every case is a golden message, changed once or a few times under a seed, given to what takes such messages in the bot.
It may be taken, or refused as garbled with the place named; anything else that comes out of it would end the bot.

    python -m tests.support.decoder_fuzz --cases 1000000
    python -m tests.support.decoder_fuzz --seconds 30 --seed 7
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from bot.domain.events import BookDelta, BookLost, BookSnapshot, Event, Filled, OrderUpdated, TradePrinted
from bot.simulator.listings import GENERATED
from bot.venues.bybit import calls, wire
from bot.venues.bybit.decode import Grid
from bot.venues.bybit.private_stream import PrivateStream
from bot.venues.bybit.public_stream import PublicStream
from bot.venues.bybit.sockets import StreamRefused
from bot.venues.bybit.trade_stream import TradeStream
from bot.venues.port import VenueError, VenueGarbled
from tests.support.fuzzed_answers import ANSWERS, BATCH_ANSWERS, NOW_NS, READS, SYMBOL, TRADE_ANSWERS, Batches

GOLDEN: Final = Path(__file__).parents[1] / "contract" / "golden"
Take = Callable[[bytes], None]

ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1.5, 1e308, 2**63, -(2**63) - 1, 10**40, "", " ", "0", "-1", "-0.001", "1e-9", "NaN"),
    *("Infinity", "-Infinity", "1E+999999", "1E-999999", "0.00000000001", "9" * 400, "abc", "0x10", "１２", "\u0000"),
    *("91240.05", "0.0005", [], {}, [[]], [["1"]], [["1", "2", "3"]], {"a": {"b": {}}}, "Buy", "buy", "Nonsense"),
)


class Fuzz:
    """Cases under one seed. `seen`: how often a case was taken, and how often refused; `events`: what was taken."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.seen: Counter[str] = Counter()
        self.events = 0
        self._random = random.Random(seed)
        self._grids = {SYMBOL: Grid(GENERATED)}
        self._public = PublicStream("", _NOBODY, self._told, lambda: NOW_NS, random.Random(1), self._grids)
        self._private = PrivateStream(
            "", _NOBODY, self._told, lambda: NOW_NS, random.Random(1), _never, self._grids, "linear", "k", "s",
            lambda: 0,
        )  # fmt: skip
        self._trade = TradeStream(
            "", _NOBODY, lambda: NOW_NS, random.Random(1), _never, "k", "s", lambda: 0, 5_000, bool
        )
        self._batches = Batches()
        self._messages = self._load()

    def _load(self) -> list[tuple[str, bytes, Take]]:
        found: list[tuple[str, bytes, Take]] = []
        for path in sorted(GOLDEN.glob("*.json")):
            name, raw = path.stem, path.read_bytes()
            if name in READS:
                found += [(name, raw, self._rest(read)) for read in READS[name]]
            elif name.startswith("stream_"):
                public = any(word in name for word in ("book", "trade", "public"))
                found.append((name, raw, (self._public if public else self._private)._take))
        found += [(f"trade_{n}", json.dumps(one).encode(), self._trade._take) for n, one in enumerate(TRADE_ANSWERS)]
        for name, answer in ANSWERS.items():
            found += [(name, json.dumps(answer).encode(), self._rest(read)) for read in READS[name]]
        for kind, answer in BATCH_ANSWERS.items():
            found.append((f"batch_{kind}", json.dumps(answer).encode(), partial(self._batches.take, kind)))
        return found

    def _rest(self, read: Callable[[wire.Envelope], object]) -> Take:
        def take(raw: bytes) -> None:
            read(wire.envelope(200, raw, calls.ORDERBOOK))

        return take

    def _told(self, event: Event) -> None:
        """What was taken must make sense: whatever is wrong with it is wrong in the bot from here on."""
        self.events += 1
        match event:
            case OrderUpdated(order=order):
                assert order.qty_lots >= 0 <= order.filled_lots
                assert order.price_ticks >= 0
            case Filled():
                assert event.qty_lots >= 0
                assert event.price.is_finite()
                assert event.fee_quote.is_finite()
            case TradePrinted():
                assert event.price_ticks > 0 <= event.qty_lots
            case BookLost():
                assert event.reason.removeprefix("garbled").strip(": "), "the field is named"
            case BookSnapshot() | BookDelta():
                assert all(ticks > 0 <= lots for ticks, lots in (*event.bids, *event.asks))

    def run(self, cases: int | None, seconds: float = math.inf) -> int:
        """So many cases, or as many as that time takes: how many. Raises AssertionError for the first that is neither,
        with seed, number and message: as many cases and one under that seed end in the same."""
        end_s, number = time.monotonic() + seconds, 0
        with asyncio.Runner() as self._batches.runner:
            while (cases is None or number < cases) and time.monotonic() < end_s:
                self._one(number)
                number += 1
        return number

    def whole(self) -> set[str]:
        """The names of all messages, each given as it is. Raises what comes of one that is not taken."""
        with asyncio.Runner() as self._batches.runner:
            for _, raw, take in self._messages:
                with contextlib.suppress(StreamRefused):  # one of them is a refusal
                    take(raw)
        return {name for name, _, _ in self._messages}

    def outcomes(self, kind: str) -> list[str]:
        """Of the batch of that kind as it was asked last."""
        return [type(one).__name__ for one in self._batches.outcomes[kind]]

    def _one(self, number: int) -> None:
        name, raw, take = self._random.choice(self._messages)
        changed = self._changed(raw)
        try:
            take(changed)
            self.seen["taken"] += 1
        except VenueGarbled as error:
            self.seen["garbled" if str(error).strip(": ") else "garbled without a word"] += 1
        except (StreamRefused, VenueError):
            self.seen["refused"] += 1
        except Exception as error:
            where = f"seed {self.seed}, case {number}, {name}"
            raise AssertionError(f"{where}: {type(error).__name__}: {error}; {changed[:400]!r}") from error

    def _changed(self, raw: bytes) -> bytes:
        draw = self._random
        if draw.random() < 0.3:
            return self._other_bytes(raw)
        document = json.loads(raw)
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            self._change_somewhere(document)
        return json.dumps(document).encode("utf-8", "surrogatepass")

    def _other_bytes(self, raw: bytes) -> bytes:
        draw, data = self._random, bytearray(raw)
        for _ in range(draw.choice((1, 1, 2, 8))):
            at = draw.randrange(len(data) + 1)
            match draw.randrange(6):
                case 0:
                    del data[at:]
                case 1:
                    data[at:at] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 4)))
                case 2 if at < len(data):
                    data[at] ^= 1 << draw.randrange(8)
                case 3:
                    del data[at : at + draw.randint(1, 20)]
                case 4:
                    data[at:at] = data[at : at + draw.randint(1, 60)]
                case 5:
                    data[at:at] = b"[" * draw.choice((1, 10, 5_000)) if draw.random() < 0.02 else b"{"
        return bytes(data)

    def _change_somewhere(self, document: Any) -> None:
        draw = self._random
        places = list(_places(document))
        if not places:
            return
        holder, key = draw.choice(places)
        match draw.randrange(7):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[f"{key}{draw.choice(('_', 'X', ' '))}"] = holder.pop(key)
            case 2 if isinstance(holder, dict):
                holder[draw.choice(("newField", "note", "ts"))] = copy.deepcopy(draw.choice(ODD_VALUES))
            case 3 if isinstance(holder[key], str):
                holder[key] = draw.choice(("-", "", "1e", "0")) + holder[key]
            case 4 if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            case _:
                holder[key] = copy.deepcopy(draw.choice(ODD_VALUES))


def _places(node: Any) -> Any:
    """Every (holder, key) of a document."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(pairs):
        yield node, key
        yield from _places(value)


_NOBODY: Any = None


async def _never() -> None:
    raise AssertionError("nothing connects here")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.decoder_fuzz")
    parser.add_argument("--cases", type=int, help="default: 1000000, or what the time takes")
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    fuzz, began_s = Fuzz(chosen.seed), time.process_time()
    cases = 1_000_000 if chosen.cases is None and math.isinf(chosen.seconds) else chosen.cases
    try:
        ran = fuzz.run(cases, chosen.seconds)
    except AssertionError as error:
        print(f"decoder_fuzz: {error}", file=sys.stderr)
        return 1
    took_s = time.process_time() - began_s
    shares = ", ".join(f"{count:,} {word}" for word, count in sorted(fuzz.seen.items()))
    print(f"{ran:,} cases under seed {chosen.seed}: {shares}; {fuzz.events:,} events; {took_s:.0f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
