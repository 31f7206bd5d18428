"""Amendments that the venue reads from their text do and say what they do and say when they are decoded."""

from __future__ import annotations

import hashlib
import hmac
import json
from decimal import Decimal
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from bot.simulator.bybit import V5
from bot.simulator.bybit_amends import AmendTexts
from bot.simulator.bybit_sockets import TradeSession
from bot.simulator.exchange import Exchange
from bot.simulator.listings import GENERATED
from bot.simulator.market import GeneratedMarket
from bot.simulator.venue import Venue

NOW_NS: Final = 1_700_000_000_000_000_000
IDS: Final = ("mm-1", "mm-2", "mm-3")
ODD: Final = (
    "", "0", "-1", "1e4", "55000.", ".5", "055000", "55000.10", "55000.15", "55000.100", "5\\n5000", " 55000", "１２",
    "9" * 17, "9" * 18, "9" * 19, "5_000", "55,000", "\\u0035", '55000"', "55\n000", "\x7f",
)  # fmt: skip
PRICES: Final = st.integers(549_000, 551_000).map(lambda ticks: f"{ticks // 10}.{ticks % 10}")


class Client:
    """One who has three orders, and what he is told. `reads_texts`: what his session may do."""

    def __init__(self, *, reads_texts: bool) -> None:
        self.venue = Venue(GENERATED, GeneratedMarket(3), seed=3, now_ns=NOW_NS)
        self.account = self.venue.open_account("key", "secret", Decimal(100_000), NOW_NS)
        self.sent: list[str] = []
        self.acted = 0
        self.session = TradeSession("c", self.sent.append, V5(Exchange((self.venue,))), self._acted)
        self.session.reads_texts = reads_texts
        expires = NOW_NS // 1_000_000 + 10**9
        sign = hmac.new(b"secret", f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
        self.session.receive(json.dumps({"op": "auth", "args": ["key", expires, sign]}), NOW_NS)
        for number, link_id in enumerate(IDS):
            terms = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.010",
                     "price": "54000", "timeInForce": "PostOnly", "orderLinkId": link_id}  # fmt: skip
            self.session.receive(asking(f"c{number}", "order.create", terms), NOW_NS)

    def _acted(self) -> None:
        self.acted += 1

    def all_that_is_known(self) -> tuple[Any, ...]:
        orders = [
            (order.link_id, order.price_ticks, order.qty_lots, order.status, order.updated_at_ns)
            for order in self.account.by_link.values()
        ]
        return self.sent, self.acted, orders, len(self.venue.drain())


def asking(number: str, op: str, args: Any, *, stamp_ms: int = NOW_NS // 1_000_000, window: str = "5000") -> str:
    header = {"X-BAPI-TIMESTAMP": str(stamp_ms), "X-BAPI-RECV-WINDOW": window}
    return json.dumps({"reqId": number, "header": header, "op": op, "args": [args]}, separators=(",", ":"))


def row(link_id: str, price: str, qty: str = "0.010") -> dict[str, str]:
    return {"symbol": "BTCUSDT", "orderLinkId": link_id, "qty": qty, "price": price}


def batch(rows: list[dict[str, str]], category: str = "linear") -> dict[str, Any]:
    return {"category": category, "request": rows}


ROWS: Final = st.builds(
    row,
    st.sampled_from((*IDS, *IDS, "mm-9", "")),
    st.one_of(PRICES, PRICES, PRICES, st.sampled_from(ODD)),
    st.sampled_from(("0.010", "0.010", "0.020", "0", "x", "")),
)
REQUESTS: Final = st.builds(
    lambda number, rows, late_ms, window, category: asking(
        f"r-{number}", "order.amend-batch", batch(rows, category), stamp_ms=NOW_NS // 1_000_000 - late_ms, window=window
    ),
    st.integers(0, 40),
    st.lists(ROWS, min_size=1, max_size=3) | st.lists(ROWS, max_size=22),
    st.sampled_from((0, 0, 0, 4_999, 5_001, -999, -1_000)),
    st.sampled_from(("5000", "5000", "5000", "7000", "x")),
    st.sampled_from(("linear", "linear", "linear", "spot")),
)
CANCELS: Final = st.sampled_from(IDS).map(
    lambda link_id: asking("", "order.cancel", {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": link_id})
)


@st.composite
def broken(draw: st.DrawFn) -> str:
    """A request of which a piece is another."""
    text = draw(REQUESTS)
    at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
    return (
        text[:at]
        + draw(st.sampled_from(("", "0", '"', ",", "}", "]", "\\", "\n", "é", "\udcff")))
        + text[at + length :]
    )


@given(st.lists(REQUESTS | REQUESTS | CANCELS | broken(), min_size=4, max_size=14), st.integers(0, 2_000))
def test_whatever_is_asked_for_comes_to_the_same(texts: list[str], apart_ms: int) -> None:
    quick, patient = (Client(reads_texts=how) for how in (True, False))
    for number, text in enumerate([asking("r-x", "order.amend-batch", batch([row("mm-1", "54100.5")])), *texts]):
        for client in (quick, patient):
            client.session.receive(text, NOW_NS + number * apart_ms * 1_000)
    assert quick.all_that_is_known() == patient.all_that_is_known()


def known(client: Client) -> AmendTexts:
    """Reads what two orders were last asked."""
    texts = client.session._amends
    assert texts is not None
    rows = [row("mm-1", "54100.5"), row("mm-2", "54100.6")]
    client.session.receive(asking("k", "order.amend-batch", batch(rows)), NOW_NS)
    return texts


def test_what_was_asked_once_is_read_from_then_on() -> None:
    client = Client(reads_texts=True)
    texts = known(client)
    for first, second in (("mm-1", "mm-2"), ("mm-2", "mm-1")):
        amends = texts.read(asking("7", "order.amend-batch", batch([row(first, "54200"), row(second, "54201.7")])))
        assert amends is not None
        assert (amends.number, amends.stamp_ms, amends.window_ms) == ("7", NOW_NS // 1_000_000, 5_000)
        assert [order.link_id for order in amends.orders] == [first, second]
        assert amends.prices_ticks == [542_000, 542_017]


def test_what_was_never_asked_for_is_decoded() -> None:
    client = Client(reads_texts=True)
    texts = known(client)
    for rows in ([row("mm-3", "54200")], [row("mm-1", "54200", "0.020")], [row("mm-1", "54200.55")], []):
        assert texts.read(asking("7", "order.amend-batch", batch(rows))) is None
    assert texts.read(asking("7", "order.amend-batch", batch([row("mm-1", "54200")]), window="4000")) is None
    assert texts.read(asking("", "order.amend-batch", batch([row("mm-1", "54200")]))) is None


def test_what_is_known_of_one_category_is_nothing_of_another() -> None:
    client = Client(reads_texts=True)
    texts = known(client)
    texts.learn(asking("7", "order.amend-batch", batch([], "spot")), "5000", {"category": "spot", "request": []})
    for category in ("spot", "linear"):
        assert texts.read(asking("7", "order.amend-batch", batch([row("mm-1", "54200")], category))) is None


def test_whoever_armed_a_fault_has_every_request_decoded() -> None:
    client = Client(reads_texts=True)
    known(client)
    client.venue.arm("refuse", client.account.name, {"request": "amend", "code": 10001}, NOW_NS)
    client.session.receive(asking("8", "order.amend-batch", batch([row("mm-1", "54200")])), NOW_NS)
    assert json.loads(client.sent[-1])["retExtInfo"]["list"][0]["code"] == 10001
