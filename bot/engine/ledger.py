"""The ledger: average-cost book-keeping in exact decimals, one account, fills keyed by execution id.

Kept per symbol is the *cost* of the open position, not its average price. Closing a part moves that part of the cost
into the realised result, so that realised + (position x mark - cost) is conserved exactly whatever the order of the
fills, even where a share of the cost does not divide evenly.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal, getcontext, localcontext, setcontext
from typing import Final

import msgspec

from bot.domain.events import Filled, FundingPaid
from bot.domain.instrument import Instrument
from bot.domain.order import FLATTEN_PREFIX, Side
from bot.engine.parameters import NS_PER_S

_BUY: Final = Side.BUY
ZERO: Final = Decimal(0)
_STEP: Final = Decimal("0.000000000001")
EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_multiply: Final = EXACT.multiply
_subtract: Final = EXACT.subtract
EXECUTIONS_KEPT: Final = 10_000
DAY_NS: Final = 24 * 3600 * NS_PER_S
_SAMPLE_NS: Final = 60 * NS_PER_S


class Account:
    """One symbol. `cost_quote` has the sign of the position; `fees_quote` paid, `rebates_quote` received, both >= 0.

    `funding_quote`: received - paid, signed. `dust_base`: coin beyond `position_lots`, at least 0 and below a lot; only
    spot has any, where fees are taken out of the coin that is bought.
    """

    __slots__ = (
        "cost_quote", "dust_base", "fees_quote", "fills", "funding_quote", "maker_notional_quote", "position_lots",
        "realized_quote", "rebates_quote", "taker_notional_quote",
    )  # fmt: skip

    def __init__(self) -> None:
        self.position_lots = 0
        self.cost_quote: Decimal = ZERO
        self.realized_quote: Decimal = ZERO
        self.fees_quote: Decimal = ZERO
        self.rebates_quote: Decimal = ZERO
        self.funding_quote: Decimal = ZERO
        self.maker_notional_quote: Decimal = ZERO
        self.taker_notional_quote: Decimal = ZERO
        self.fills = 0
        self.dust_base: Decimal = ZERO

    def copy(self) -> Account:
        """Another one that stands where this one does."""
        other = Account()
        other.position_lots = self.position_lots
        other.cost_quote = self.cost_quote
        other.realized_quote = self.realized_quote
        other.fees_quote = self.fees_quote
        other.rebates_quote = self.rebates_quote
        other.funding_quote = self.funding_quote
        other.maker_notional_quote = self.maker_notional_quote
        other.taker_notional_quote = self.taker_notional_quote
        other.fills = self.fills
        other.dust_base = self.dust_base
        return other

    @property
    def dust_lots(self) -> int:
        """Dust where it counts at its worst: a lot, which it never quite is."""
        dust_base = self.dust_base
        return 1 if dust_base is not ZERO and dust_base else 0

    @property
    def net_realized_quote(self) -> Decimal:
        return self.realized_quote - self.fees_quote + self.rebates_quote + self.funding_quote


class Pnl(msgspec.Struct, frozen=True):
    """Profit and loss, quote. `net` = realized + unrealized - fees + rebates + funding.

    `unrealized`, and with it `net`: None where a position is open that nothing tells the worth of.
    """

    realized: Decimal = ZERO
    unrealized: Decimal | None = ZERO
    fees: Decimal = ZERO
    rebates: Decimal = ZERO
    funding: Decimal = ZERO
    net: Decimal | None = ZERO


class Ledger:
    """All symbols of one venue account."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self.accounts: dict[str, Account] = {symbol: Account() for symbol in symbols}
        self._seen: OrderedDict[str, int] = OrderedDict()  # its oldest is found at once however many have left
        self.executed_first_ns = 0
        """When the oldest execution that is remembered happened; 0: none is remembered."""
        self.version = 0
        """Rises with every fill, funding settlement and position taken over."""

    def record(self, fill: Filled, instrument: Instrument) -> bool:
        """Account for a fill. False where its execution id is known: then nothing changes."""
        if fill.execution_id in self._seen:
            return False
        self._remember(fill.execution_id, fill.at_ns)
        usual = getcontext()
        setcontext(EXACT)
        try:
            _apply(self.accounts[fill.symbol], fill, instrument)
        finally:
            setcontext(usual)
        return True

    def _remember(self, identity: str, at_ns: int) -> None:
        self._seen[identity] = at_ns
        if not self.executed_first_ns:
            self.executed_first_ns = at_ns
        self.version += 1

    def record_funding(self, paid: FundingPaid) -> bool:
        """Account for a funding settlement. False where its id is known: then nothing changes."""
        identity = f"funding {paid.funding_id}"
        if identity in self._seen:
            return False
        self._remember(identity, paid.at_ns)
        with localcontext(EXACT):
            self.accounts[paid.symbol].funding_quote += paid.amount_quote
        return True

    def knows(self, execution_id: str) -> bool:
        """Whether that execution is accounted for (and not yet forgotten)."""
        return execution_id in self._seen

    def adopt(
        self, symbol: str, position_lots: int, entry_price: Decimal, instrument: Instrument, dust_base: Decimal = ZERO
    ) -> None:
        """Take over the venue's position as it stands; the difference in cost is nobody's profit or loss."""
        account = self.accounts[symbol]
        self.version += 1
        account.position_lots, account.dust_base = position_lots, dust_base
        account.cost_quote = (instrument.qty(position_lots) + dust_base) * entry_price

    def forget_executions(self, before_ns: int) -> None:
        """Execution ids older than that, and all but the newest `EXECUTIONS_KEPT`, no longer guard against repeats."""
        seen = self._seen
        if self.executed_first_ns >= before_ns and len(seen) <= EXECUTIONS_KEPT:
            return
        while seen:
            self.executed_first_ns = next(iter(seen.values()))
            if self.executed_first_ns >= before_ns and len(seen) <= EXECUTIONS_KEPT:
                return
            seen.popitem(last=False)
        self.executed_first_ns = 0

    @property
    def execution_count(self) -> int:
        """Execution ids remembered now."""
        return len(self._seen)

    def pnl(self, symbol: str, mark: Decimal | None, instrument: Instrument | None) -> Pnl:
        """Marked at `mark`; without one (no book yet) what an open position came to is not known."""
        account = self.accounts[symbol]
        unrealized = _unrealized(account, mark, instrument)
        return Pnl(
            account.realized_quote,
            unrealized,
            account.fees_quote,
            account.rebates_quote,
            account.funding_quote,
            None if unrealized is None else account.net_realized_quote + unrealized,
        )

    def net_quote(self, symbol: str, mark: Decimal | None, instrument: Instrument | None) -> Decimal | None:
        """`pnl(…).net` alone."""
        account = self.accounts[symbol]
        unrealized = _unrealized(account, mark, instrument)
        return None if unrealized is None else account.net_realized_quote + unrealized

    @property
    def maker_notional_quote(self) -> Decimal:
        return sum((account.maker_notional_quote for account in self.accounts.values()), ZERO)

    @property
    def traded_notional_quote(self) -> Decimal:
        """Of quotes; flatten orders are apart, so that getting out does not look like taking."""
        taker = sum((account.taker_notional_quote for account in self.accounts.values()), ZERO)
        return self.maker_notional_quote + taker

    @property
    def funding_quote(self) -> Decimal:
        """Received - paid, all symbols."""
        return sum((account.funding_quote for account in self.accounts.values()), ZERO)

    @property
    def fills(self) -> int:
        return sum(account.fills for account in self.accounts.values())


def _unrealized(account: Account, mark: Decimal | None, instrument: Instrument | None) -> Decimal | None:
    if not (account.position_lots or account.dust_base):
        return ZERO
    if mark is None or instrument is None:
        return None
    qty = _multiply(instrument.lot_size, account.position_lots)
    if account.dust_base:
        qty = EXACT.add(qty, account.dust_base)
    return _subtract(_multiply(qty, mark), account.cost_quote)


def _apply(account: Account, fill: Filled, instrument: Instrument) -> None:
    lots, price, lot_size, fee_quote = fill.qty_lots, fill.price, instrument.lot_size, fill.fee_quote
    buys = fill.side is _BUY
    notional = lot_size * lots * price
    held = account.position_lots
    closing = 0
    if held and (held < 0) is buys:
        closing = min(abs(held), lots)
        share = account.cost_quote if closing == abs(held) else _part(account.cost_quote, closing, abs(held))
        proceeds = lot_size * closing * price
        account.realized_quote += (proceeds if held > 0 else -proceeds) - share
        account.cost_quote -= share
    opening = lots - closing
    if opening:
        cost = notional if not closing else lot_size * opening * price
        account.cost_quote += cost if buys else -cost
    account.position_lots = held + lots if buys else held - lots
    if fill.fee_base:
        _take_out(account, fill, instrument)
    if fee_quote >= 0:
        account.fees_quote += fee_quote
    else:
        account.rebates_quote -= fee_quote
    if fill.is_maker:
        account.maker_notional_quote += notional
    elif not fill.client_order_id.startswith(FLATTEN_PREFIX):
        account.taker_notional_quote += notional
    account.fills += 1


def _take_out(account: Account, fill: Filled, instrument: Instrument) -> None:
    """The fee leaves the coin at the fill's price: `fee_quote` has charged it, so its cost is not charged again."""
    left = account.dust_base - fill.fee_base
    whole = instrument.lots_floor(left)
    account.position_lots += whole
    account.dust_base = left - instrument.qty(whole)
    account.cost_quote -= fill.fee_base * fill.price


def _part(cost: Decimal, closing: int, held: int) -> Decimal:
    """The share of the cost that a partial close takes, on a fixed grid: what is left is left exactly."""
    return (cost * closing / held).quantize(_STEP)


class EquityCurve:
    """Net result over time: the loss of the last 24 hours and the drawdown from the peak, both >= 0, quote.

    One sample a minute (1,440 a day). The 24 h loss is measured from the oldest sample inside the window, so a day
    that began at a peak shows the whole fall, and midnight means nothing.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, Decimal]] = deque()
        self.changes_at_ns = 0
        """From when on the same net result, told again, would change something."""
        self.peak_quote: Decimal | None = None
        self.loss_24h_quote = ZERO
        self.drawdown_quote = ZERO

    def note(self, net_quote: Decimal, at_ns: int) -> bool:
        """Tell the net result at a time that never steps back. True where it was kept as a sample."""
        samples = self._samples
        sampled = not samples or at_ns - samples[-1][0] >= _SAMPLE_NS
        if sampled:
            samples.append((at_ns, net_quote))
        while len(samples) > 1 and samples[1][0] <= at_ns - DAY_NS:
            samples.popleft()
        self.changes_at_ns = samples[-1][0] + _SAMPLE_NS
        if len(samples) > 1:
            self.changes_at_ns = min(self.changes_at_ns, samples[1][0] + DAY_NS)
        if self.peak_quote is None or net_quote > self.peak_quote:
            self.peak_quote = net_quote
        self.loss_24h_quote = max(ZERO, samples[0][1] - net_quote)
        self.drawdown_quote = self.peak_quote - net_quote
        return sampled

    @property
    def oldest_quote(self) -> Decimal:
        """The net result that the loss of the last 24 hours is measured from; 0 before the first sample."""
        return self._samples[0][1] if self._samples else ZERO

    @property
    def newest_quote(self) -> Decimal:
        """The net result of the newest sample; 0 before the first."""
        return self._samples[-1][1] if self._samples else ZERO

    def restore(self, net_quote: Decimal, peak_quote: Decimal, at_ns: int) -> None:
        """A sample that an earlier process of this account kept, with the peak as it was then."""
        self.note(net_quote, at_ns)
        assert self.peak_quote is not None  # noqa: S101 - told to the type checker; `note` has just set it
        self.peak_quote = max(self.peak_quote, peak_quote)
        self.drawdown_quote = self.peak_quote - net_quote

    def carry(self, samples: Iterable[tuple[int, Decimal]], peak_quote: Decimal) -> None:
        """The day before this ledger began, of the same account: its last result is this ledger's zero."""
        earlier = list(samples)
        if not earlier:
            return
        offset = earlier[-1][1]
        own = list(self._samples)
        self._samples = deque([(at_ns, net - offset) for at_ns, net in earlier] + own)
        self.changes_at_ns = 0
        peak = peak_quote - offset
        self.peak_quote = peak if self.peak_quote is None else max(peak, self.peak_quote)
        newest = self._samples[-1][1]
        self.loss_24h_quote = max(ZERO, self._samples[0][1] - newest)
        self.drawdown_quote = self.peak_quote - newest
