"""Bybit's own documented examples, where they lie beside this checkout: what is read of them is what stands there.

They are not ours to copy; tests/contract/golden has messages of the same shapes with values of our own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.venues.bybit import wire
from bot.venues.bybit.sockets import push_of

EXAMPLES = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "bybit_v5"
NOT_HERE = "the documented examples are not beside this checkout"

REST: dict[str, Any] = {
    "account__fee-rate": wire.FeeRatePage,
    "account__wallet-balance": wire.WalletList,
    "market__orderbook": wire.BookRows,
    "market__time": wire.ServerTime,
    "order__amend-order": wire.OrderAck,
    "order__batch-amend": wire.BatchAck,
    "order__batch-cancel": wire.BatchAck,
    "order__batch-place": wire.BatchAck,
    "order__cancel-all": wire.CancelAllAck,
    "order__cancel-order": wire.OrderAck,
    "order__create-order": wire.OrderAck,
    "order__execution": wire.ExecutionPage,
    "order__open-order": wire.OrderPage,
    "order__order-list": wire.OrderPage,
    "position__position": wire.PositionPage,
    "user__apikey-info": wire.KeyInformation,
}
TOPICS: dict[str, Any] = {
    "order": wire.OrderRow,
    "execution": wire.ExecutionRow,
    "position": wire.PositionRow,
    "wallet": wire.WalletRow,
    "publicTrade": wire.TradeRow,
    "orderbook": wire.BookRows,
}


def same(read: Any, source: Any, where: str) -> int:
    """Raises AssertionError where something read is not what stands there; returns how many values were compared."""
    if isinstance(read, dict):
        return sum(same(value, source[name], f"{where}.{name}") for name, value in read.items() if name in source)
    if isinstance(read, list):
        assert len(read) == len(source), where
        return sum(same(one, other, f"{where}[{n}]") for n, (one, other) in enumerate(zip(read, source, strict=True)))
    assert read == source, f"{where}: read {read!r}, there stands {source!r}"
    return 1


def compared(read: Any, source: Any, where: str) -> int:
    return same(msgspec.json.decode(msgspec.json.encode(read)), source, where)


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason=NOT_HERE)
def test_what_is_read_of_the_documented_examples_is_what_stands_there() -> None:
    counts = check(EXAMPLES)
    assert set(counts) >= {*REST, *TOPICS}, f"no example of {({*REST, *TOPICS}) - set(counts)}"
    assert all(counts.values()), counts


def check(folder: Path) -> dict[str, int]:
    """How many values of each kind of example were compared."""
    counts: dict[str, int] = {}
    for path in sorted(folder.glob("*.json")):
        raw, kind = path.read_bytes(), path.stem.rpartition("__")[0]
        source = json.loads(raw)
        if "topic" in source:
            topic = str(source["topic"]).partition(".")[0]
            if topic in TOPICS and ".fast" not in source["topic"]:
                data = source["data"]
                push = push_of(raw, path.stem)
                if isinstance(data, list):
                    rows: Any = wire.decode_rows(TOPICS[topic], push.data, path.stem)
                else:
                    rows = wire.decode(TOPICS[topic], push.data, path.stem)
                counts[topic] = counts.get(topic, 0) + compared(rows, data, path.stem)
        elif kind in REST and source.get("retCode") == 0:
            envelope = wire.envelope(200, raw, path.stem)
            read = wire.decode(REST[kind], envelope.result, path.stem)
            counts[kind] = counts.get(kind, 0) + compared(read, source["result"], path.stem)
        elif "reqId" in source and "retCode" in source:
            counts["trade"] = counts.get("trade", 0) + compared(
                wire.decode(wire.TradeAnswer, raw, ""), source, path.stem
            )
    return counts
