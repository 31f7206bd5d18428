"""The ledger: exact, and the same whatever the order and however often a fill is told."""

from __future__ import annotations

from decimal import Decimal
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bot.domain.events import Filled
from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.engine.ledger import DAY_NS, EquityCurve, Ledger

D = Decimal
S = 1_000_000_000
SYMBOL = "BTCUSDT"
INSTRUMENT = Instrument(SYMBOL, "linear", "BTC", "USDT", D("0.1"), D("0.001"), D("0.001"), D(100), D(5))

fills_drawn = st.lists(
    st.tuples(
        st.sampled_from(list(Side)), st.integers(1, 50), st.integers(400_000, 600_000), st.integers(-99, 99),
        st.booleans(),
    ),
    max_size=25,
)  # fmt: skip


def fill(
    name: str, side: Side, lots: int, price: str, fee: str = "0", *, maker: bool = True, order: str = "slwq-1-1"
) -> Filled:
    return Filled(1, name, order, "v", SYMBOL, side, D(price), lots, D(fee), maker, 1)


def ledger_of(*fills: Filled) -> Ledger:
    ledger = Ledger((SYMBOL,))
    for one in fills:
        ledger.record(one, INSTRUMENT)
    return ledger


def test_average_cost_is_realised_when_a_position_is_closed_in_parts() -> None:
    ledger = ledger_of(fill("1", Side.BUY, 10, "100"), fill("2", Side.BUY, 10, "110"), fill("3", Side.SELL, 5, "120"))
    pnl = ledger.pnl(SYMBOL, D(120), INSTRUMENT)
    assert ledger.accounts[SYMBOL].position_lots == 15
    assert pnl.realized == D("0.075")  # 0.005 x (120 - 105)
    assert pnl.unrealized == D("0.225")


def test_a_fill_through_zero_closes_the_old_position_and_opens_the_new_one() -> None:
    ledger = ledger_of(fill("1", Side.BUY, 10, "100"), fill("2", Side.SELL, 15, "110"))
    account = ledger.accounts[SYMBOL]
    assert (account.position_lots, account.realized_quote, account.cost_quote) == (-5, D("0.1"), D("-0.55"))


def test_fees_and_rebates_are_kept_apart_and_both_count() -> None:
    pnl = ledger_of(fill("1", Side.BUY, 1, "100", "0.5"), fill("2", Side.SELL, 1, "100", "-0.2")).pnl(
        SYMBOL, None, None
    )
    assert (pnl.fees, pnl.rebates, pnl.net) == (D("0.5"), D("0.2"), D("-0.3"))


def test_flatten_orders_do_not_look_like_taking() -> None:
    ledger = ledger_of(fill("1", Side.BUY, 10, "100"), fill("2", Side.SELL, 10, "100", maker=False, order="slwf-1-2"))
    assert ledger.maker_notional_quote == ledger.traded_notional_quote == D(1)


@given(fills_drawn, st.randoms(use_true_random=False))
def test_whatever_the_order_and_the_repeats_the_ledger_is_the_sum_of_its_fills(
    drawn: list[tuple[Side, int, int, int, bool]], random: Random
) -> None:
    fills = [
        fill(f"e{number}", side, lots, str(D(price) / 10), str(D(fee) / 1000), maker=maker)
        for number, (side, lots, price, fee, maker) in enumerate(drawn)
    ]
    told = [*fills, *fills]
    random.shuffle(told)
    ledger, mark = ledger_of(*told), D("50123.4")
    account, pnl = ledger.accounts[SYMBOL], ledger.pnl(SYMBOL, mark, INSTRUMENT)
    position = sum(one.side.sign * one.qty_lots for one in fills)
    cash = sum((-one.side.sign * one.price * INSTRUMENT.qty(one.qty_lots) for one in fills), D(0))
    assert account.position_lots == position
    assert account.fills == len(fills)
    assert pnl.realized + pnl.unrealized == cash + INSTRUMENT.qty(position) * mark
    assert pnl.rebates - pnl.fees == -sum((one.fee_quote for one in fills), D(0))
    assert position or account.cost_quote == 0


def test_a_known_execution_changes_nothing_and_is_forgotten_after_a_day() -> None:
    ledger = Ledger((SYMBOL,))
    assert ledger.record(fill("1", Side.BUY, 1, "100"), INSTRUMENT)
    assert not ledger.record(fill("1", Side.BUY, 1, "100"), INSTRUMENT)
    ledger.forget_executions(before_ns=2)
    assert ledger.execution_count == 0


def test_an_adopted_position_is_nobodys_profit() -> None:
    ledger = Ledger((SYMBOL,))
    ledger.adopt(SYMBOL, -10, D(100), INSTRUMENT)
    assert ledger.pnl(SYMBOL, D(100), INSTRUMENT).net == 0
    assert ledger.pnl(SYMBOL, D(90), INSTRUMENT).net == D("0.1")


def test_loss_of_24_hours_rolls_and_drawdown_does_not() -> None:
    curve = EquityCurve()
    curve.note(D(0), 0)
    curve.note(D(50), 100 * S)
    curve.note(D(-10), 200 * S)
    assert (curve.loss_24h_quote, curve.drawdown_quote) == (D(10), D(60))
    curve.note(D(-10), DAY_NS + 300 * S)
    assert (curve.loss_24h_quote, curve.drawdown_quote) == (D(0), D(60))
