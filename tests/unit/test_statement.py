"""What the venue states of an account: decoded exactly, read when due, and never taken for granted."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain import events as ev
from bot.domain.instrument import Instrument
from bot.runtime.statement import FEES_EVERY_NS, WALLET_EVERY_NS, StatementReader
from bot.venues.bybit import decode, wire
from bot.venues.port import FeeRates, VenueGarbled, VenueUnknown, Wallet

D = Decimal
GOLDEN = Path(__file__).resolve().parents[1] / "contract" / "golden"
BTC = Instrument("BTCUSDT", "linear", "BTC", "USDT", D("0.1"), D("0.001"), D("0.001"), D(100), D(5))
COIN = {"coin": "USDT", "equity": "980.5", "walletBalance": "990", "cumRealisedPnl": "-40"}


def rows(**changes: Any) -> wire.WalletList:
    row = {"totalEquity": "1001", "totalInitialMargin": "12.5", "coin": [COIN], **changes}
    return msgspec.convert({"list": [row]}, wire.WalletList)


def test_what_was_paid_in_is_the_balance_less_everything_realised_so_a_transfer_is_no_profit() -> None:
    stated = decode.wallet(rows(), "USDT", "linear")
    assert stated == Wallet(D("980.5"), D("12.5"), D(1030))
    paid_in = COIN | {"equity": "1480.5", "walletBalance": "1490"}
    later = decode.wallet(rows(coin=[paid_in]), "USDT", "linear")
    assert later.equity_quote - later.transfers_quote == stated.equity_quote - stated.transfers_quote


def test_the_golden_wallet_is_read_to_the_last_digit() -> None:
    answer = msgspec.json.decode((GOLDEN / "rest_wallet.json").read_bytes())
    stated = decode.wallet(msgspec.convert(answer["result"], wire.WalletList), "USDT", "linear")
    assert stated == Wallet(D("99880.11"), D("2282.51"), D("99862.56") + D("137.44"))


@pytest.mark.parametrize("coin", [[], [COIN | {"coin": "BTC"}], [COIN | {"cumRealisedPnl": ""}]])
def test_a_statement_that_lacks_something_is_garbled_and_never_zero(coin: list[dict[str, str]]) -> None:
    with pytest.raises(VenueGarbled):
        decode.wallet(rows(coin=coin), "USDT", "linear")


def test_spot_goes_by_the_worth_of_all_coins() -> None:
    assert decode.wallet(rows(), "USDT", "spot") == Wallet(D(1001), D("12.5"), D(0))


def test_fee_rates_become_basis_points_and_a_symbol_that_is_not_named_is_no_answer() -> None:
    row = {"symbol": "BTCUSDT", "takerFeeRate": "0.00055", "makerFeeRate": "-0.0001"}
    page = msgspec.convert({"list": [row]}, wire.FeeRatePage)
    assert decode.fee_rates(page, "BTCUSDT") == FeeRates(D(-1), D("5.5"), "api:bybit:BTCUSDT")
    with pytest.raises(VenueGarbled, match="ETHUSDT"):
        decode.fee_rates(page, "ETHUSDT")


def test_funding_on_the_stream_is_paid_by_its_sign_and_never_a_fill() -> None:
    push = msgspec.json.decode((GOLDEN / "stream_execution_funding.json").read_bytes())
    row = msgspec.convert(push["data"][0], wire.ExecutionRow)
    told = decode.execution(row, BTC, 5)
    assert told == ev.FundingPaid(5, "funding-1", "BTCUSDT", D("-0.5512"), 1_764_590_401_377_000_000)
    received = decode.execution(msgspec.structs.replace(row, exec_fee="-2"), BTC, 5)
    assert isinstance(received, ev.FundingPaid)
    assert received.amount_quote == 2


class Venue:
    """`fails`: reads that do not succeed."""

    def __init__(self) -> None:
        self.fails: set[str] = set()
        self.asked: list[str] = []

    async def wallet(self, instrument: Instrument) -> Wallet:
        self.asked.append("wallet")
        if "wallet" in self.fails:
            raise VenueUnknown("no answer")
        return Wallet(D(1000), D(10), D(900))

    async def fee_rates(self, symbol: str) -> FeeRates:
        self.asked.append("fees")
        if "fees" in self.fails:
            raise VenueUnknown("no answer")
        return FeeRates(D(1), D(6), "api:bybit:BTCUSDT")


def test_fees_and_wallet_are_read_when_due_and_a_failure_is_told_as_one() -> None:
    venue, told, now = Venue(), [], [1]
    reader = StatementReader(venue, lambda: now[0], told.append, reads_fees=True)  # type: ignore[arg-type]

    def read(later_ns: int) -> list[Any]:
        now[0] += later_ns
        told.clear()
        asyncio.run(reader.read(BTC))
        return list(told)

    venue.fails = {"fees", "wallet"}
    assert [(type(one), one.what) for one in read(0)] == [(ev.ReadFailed, "fees"), (ev.ReadFailed, "wallet")]
    venue.fails = set()
    assert [type(one) for one in read(WALLET_EVERY_NS)] == [ev.FeesRead, ev.WalletRead]
    assert read(WALLET_EVERY_NS - 1) == []
    assert [type(one) for one in read(1)] == [ev.WalletRead]
    assert [type(one) for one in read(FEES_EVERY_NS)] == [ev.FeesRead, ev.WalletRead]


def test_without_anybody_who_goes_by_them_fees_are_not_asked_for() -> None:
    venue = Venue()
    asyncio.run(StatementReader(venue, lambda: 1, lambda _: None, reads_fees=False).read(BTC))  # type: ignore[arg-type]
    assert venue.asked == ["wallet"]


def test_a_statement_without_its_margin_is_garbled_and_not_a_margin_of_nothing() -> None:
    with pytest.raises(VenueGarbled, match="totalInitialMargin"):
        decode.wallet(rows(totalInitialMargin=""), "USDT", "linear")
