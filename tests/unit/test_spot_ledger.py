"""Spot in the engine: fees that are taken out of the coin, dust below a lot, and no sale of what is not held."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.events import Filled, PositionRead
from bot.domain.instrument import Instrument, NotOnGrid
from bot.domain.intent import RiskNumber
from bot.domain.order import Side
from bot.engine.exposure import PICO
from bot.engine.ledger import Ledger
from bot.engine.money import net_by_symbol
from bot.engine.net_band import NetBand
from bot.engine.order_plan import Place
from bot.engine.quoting import Quote
from bot.engine.reconciliation import same_position
from bot.engine.risk import Approved, Refusal, Risk, Standing, limits_of
from tests.support.engine_driver import Driver, parameters
from tests.unit.test_risk import FINE, MID2

D = Decimal
SYMBOL = "BTCUSDT"
SPOT = Instrument(SYMBOL, "spot", "BTC", "USDT", D("0.1"), D("0.001"), D("0.001"), D(100), D(5))
LINEAR = Instrument(SYMBOL, "linear", "BTC", "USDT", D("0.1"), D("0.001"), D("0.001"), D(100), D(5))


def fill(name: str, side: Side, lots: int, price: str, fee_base: str = "0", fee_quote: str = "") -> Filled:
    """A fee in base is worth the fill's price, as the decoder has it."""
    fee = D(fee_quote) if fee_quote else D(fee_base) * D(price)
    return Filled(1, name, "slwq-1-1", "v", SYMBOL, side, D(price), lots, fee, True, 1, D(fee_base))


def coin(ledger: Ledger) -> Decimal:
    account = ledger.accounts[SYMBOL]
    return SPOT.qty(account.position_lots) + account.dust_base


def test_a_fee_in_the_coin_leaves_what_the_wallet_has() -> None:
    ledger = Ledger((SYMBOL,))
    ledger.record(fill("1", Side.BUY, 10, "50000", "0.00001"), SPOT)
    account = ledger.accounts[SYMBOL]
    assert (account.position_lots, account.dust_base) == (9, D("0.00099"))
    pnl = ledger.pnl(SYMBOL, D(50_000), SPOT)
    assert (pnl.fees, pnl.unrealized, pnl.net) == (D("0.5"), D(0), D("-0.5"))  # charged once


def test_dust_that_comes_to_a_lot_is_one() -> None:
    ledger = Ledger((SYMBOL,))
    for number in range(2):
        ledger.record(fill(f"b{number}", Side.BUY, 10, "50000", "0.0004"), SPOT)
    assert (ledger.accounts[SYMBOL].position_lots, ledger.accounts[SYMBOL].dust_base) == (19, D("0.0002"))
    ledger.record(fill("s", Side.SELL, 1, "50000", "-0.0009"), SPOT)  # a rebate, paid in the coin
    assert (ledger.accounts[SYMBOL].position_lots, ledger.accounts[SYMBOL].dust_base) == (19, D("0.0001"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Side)), st.integers(1, 20), st.integers(400_000, 600_000), st.integers(-900, 900)
        ),
        max_size=25,
    ),
    st.integers(500, 900),
    st.integers(0, 999),
    st.integers(400_000, 600_000),
)
def test_coin_and_money_are_those_of_the_wallet_to_the_last_digit(
    fills: list[tuple[Side, int, int, int]], held: int, dust: int, mark: int
) -> None:
    ledger, entry, last = Ledger((SYMBOL,)), D(50_000), D(mark) / 10
    ledger.adopt(SYMBOL, held, entry, SPOT, D(dust).scaleb(-6))
    coins, quote = coin(ledger), -coin(ledger) * entry
    for number, (side, lots, ticks, fee) in enumerate(fills):
        price, fee_base = D(ticks) / 10, D(fee).scaleb(-6)
        ledger.record(fill(str(number), side, lots, f"{price}", f"{fee_base}"), SPOT)
        coins += side.sign * SPOT.qty(lots) - fee_base
        quote -= side.sign * SPOT.qty(lots) * price
    account = ledger.accounts[SYMBOL]
    assert coin(ledger) == coins
    assert 0 <= account.dust_base < SPOT.lot_size
    assert ledger.net_quote(SYMBOL, last, SPOT) == quote + coins * last


def test_what_a_wallet_holds_is_whole_lots_and_dust_and_a_contract_has_none() -> None:
    assert SPOT.held_lots(D("0.0023976")) == (2, D("0.0003976"))
    assert LINEAR.held_lots(D("-0.003")) == (-3, D(0))
    with pytest.raises(NotOnGrid):
        LINEAR.held_lots(D("0.0023976"))
    with pytest.raises(NotOnGrid):
        SPOT.held_lots(D("NaN"))


@pytest.mark.parametrize(
    ("instrument", "lots", "dust", "same"),
    [
        (SPOT, 23, "0.0009", True),  # the venue rounded a fee the other way
        (SPOT, 24, "0", True),
        (SPOT, 23, "0.0000", False),
        (SPOT, 25, "0.0009", False),
        (LINEAR, 23, "0", False),
        (LINEAR, 24, "0", True),
    ],
)
def test_less_than_a_lot_apart_is_the_same_wallet(instrument: Instrument, lots: int, dust: str, same: bool) -> None:
    ledger = Ledger((SYMBOL,))
    ledger.adopt(SYMBOL, 24, D(50_000), instrument)
    read = PositionRead(1, SYMBOL, 1, lots, D(50_000), D(dust))
    assert same_position(ledger.accounts[SYMBOL], read, instrument) is same


@pytest.mark.parametrize(("position", "sells", "room"), [(10, 0, 10), (10, 4, 6), (10, 12, 0), (0, 0, 0)])
def test_on_spot_no_more_is_sold_than_is_held(position: int, sells: int, room: int) -> None:
    limits = limits_of(parameters(), SPOT, D(500), D(2000))
    seen, risk = Standing(limits, position, 0, sells, 0, MID2, MID2), Risk(parameters())
    assert risk.room(seen, Side.SELL, 500_000).lots == room
    assert risk.room(seen, Side.BUY, 500_000).lots == max(0, 10 - position)  # what the inventory leaves
    if room:
        assert isinstance(risk.approve(Place(Quote(Side.SELL, 500_000, min(room, 5))), seen, FINE), Approved)
    refused = risk.approve(Place(Quote(Side.SELL, 500_000, room + 1)), seen, FINE)
    assert isinstance(refused, Refusal)
    assert refused.number == RiskNumber("inventory", D(50) * (room + 1), D(50) * room)


def test_what_a_contract_has_of_a_coin_is_not_written_to_the_journal() -> None:
    lots, dust_base = LINEAR.held_lots(D("0.003"))
    text = msgspec.json.encode(PositionRead(1, SYMBOL, 1, lots, D(50_000), dust_base))
    assert b"dust_base" not in text
    assert msgspec.json.decode(text, type=PositionRead).dust_base == 0
    spot = msgspec.json.encode(PositionRead(1, SYMBOL, 1, *SPOT.held_lots(D("0.0035"))[:1], D(50_000), D("0.0005")))
    assert msgspec.json.decode(spot, type=PositionRead).dust_base == D("0.0005")


def engine_with_dust(position_lots: int, dust_base: str) -> Driver:
    """A wallet with coin beyond whole lots, in a symbol whose lot is worth 50 quote."""
    driver = Driver(inventory_max_quote=D(500), total_max_quote=D(500), order_notional_quote=D(500))
    driver.start()
    driver.engine.state.instruments[SYMBOL] = SPOT
    driver.engine.state.ledger.adopt(SYMBOL, position_lots, D(50_000), SPOT, D(dust_base))
    driver.engine.state.orders.touch(SYMBOL)
    return driver


def test_dust_counts_as_a_lot_of_the_worst_case() -> None:
    state = engine_with_dust(3, "0").engine.state
    buys = state.orders.exposed_lots(SYMBOL)[0]
    without = state.exposure.total_pico()
    state.ledger.adopt(SYMBOL, 3, D(50_000), SPOT, D("0.0009"))
    state.orders.touch(SYMBOL)
    assert buys
    assert state.exposure.total_pico() - without == D(500_001) / 10 / 1000 * PICO


def test_dust_leaves_room_for_a_lot_less_to_buy_and_for_none_to_sell() -> None:
    limits = limits_of(parameters(), SPOT, D(500), D(2000))
    risk = Risk(parameters())
    clean, dusty = (Standing(limits, 3, 0, 0, 0, MID2, MID2, dust_lots=lots) for lots in (0, 1))
    buys = [risk.room(one, Side.BUY, 500_000).lots for one in (clean, dusty)]
    sells = [risk.room(one, Side.SELL, 500_000).lots for one in (clean, dusty)]
    assert buys[1] == buys[0] - 1
    assert sells == [3, 3]
    assert isinstance(risk.approve(Place(Quote(Side.BUY, 500_000, 1)), dusty, FINE), Approved)
    assert isinstance(risk.approve(Place(Quote(Side.BUY, 500_000, buys[0])), dusty, FINE), Refusal)


def test_dust_alone_moves_the_net_result_between_its_bounds() -> None:
    state = engine_with_dust(0, "0.0009").engine.state
    net = sum((net_by_symbol(state) or {}).values(), D(0))
    band = NetBand(state, net, net - D("0.0001"), net + 1)
    assert band.symbols == [SYMBOL]
    mid2 = state.last_mid2[SYMBOL]
    assert band.holds({SYMBOL: mid2 - 2})  # 0.1 of price x 0.0009 = 0.00009 lost
    assert band.mids2 == [mid2 - 2]
    assert not band.holds({SYMBOL: mid2 - 4})
    assert band.mids2 == [mid2 - 2]


def test_dust_that_cannot_be_marked_is_not_worth_nothing() -> None:
    state = engine_with_dust(0, "0.0009").engine.state
    state.last_mid2.clear()
    assert net_by_symbol(state) is None
