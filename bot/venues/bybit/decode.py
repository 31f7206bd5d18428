"""From Bybit's words to ours: rows of `wire` become events and values of the domain. Pure.

Prices and quantities become whole ticks and lots through the instrument, exactly or not at all. Every failure is a
VenueGarbled that names the field and the value.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from bot.domain.events import BookDelta, BookSnapshot, Filled, FundingPaid, Level, OrderStatus, TradePrinted, VenueOrder
from bot.domain.instrument import NO_COIN, Category, Instrument, NotOnGrid
from bot.domain.order import Side
from bot.venues.bybit import wire
from bot.venues.bybit.codes import POST_ONLY_REASON
from bot.venues.port import FeeRates, Position, TopOfBook, VenueGarbled, VenueRefused, Wallet

if TYPE_CHECKING:
    from mypy_extensions import i64

NS_PER_MS: Final = 1_000_000

SIDES: Final[dict[str, Side]] = {"Buy": Side.BUY, "Sell": Side.SELL}

STATUSES: Final[dict[str, OrderStatus]] = {
    **dict.fromkeys(("Created", "New", "PartiallyFilled", "Untriggered", "Triggered", "Active"), OrderStatus.WORKING),
    "Filled": OrderStatus.FILLED,
    **dict.fromkeys(("Cancelled", "PartiallyFilledCanceled", "Deactivated"), OrderStatus.CANCELLED),
    "Rejected": OrderStatus.REJECTED,
}

_FILLS: Final = {"Trade", "AdlTrade", "BustTrade", "Delivery", "BlockTrade", "MovePosition", "FutureSpread"}
_NO_FILLS: Final = {"Funding", "Settle"}
"""Execution types that move money but no quantity."""

BPS_PER_ONE: Final = 10_000

_MEMO_MAX: Final = 4_000

DIGITS_MAX: Final = 60
MAGNITUDE_MAX: Final = 18
"""Orders of magnitude either way: past them a number is no price, quantity or money, and arithmetic on it explodes."""


def decimal(text: str, field: str) -> Decimal:
    """A finite decimal of a size that money and markets have. Raises VenueGarbled naming the field."""
    if len(text) > DIGITS_MAX:
        raise VenueGarbled(f"{field}: {text[:DIGITS_MAX]!r}… has more than {DIGITS_MAX} characters")
    try:
        value = Decimal(_plain(text))
    except (InvalidOperation, ValueError):
        raise VenueGarbled(f"{field}: {text!r} is no decimal number") from None
    if not value.is_finite():
        raise VenueGarbled(f"{field}: {text!r} is no finite number")
    if value and abs(value.adjusted()) > MAGNITUDE_MAX:
        raise VenueGarbled(f"{field}: {text!r} is not between 1E-{MAGNITUDE_MAX} and 1E+{MAGNITUDE_MAX}")
    return value


def whole(text: str, field: str) -> int:
    """A whole number written as a string. Raises VenueGarbled naming the field."""
    try:
        return int(_plain(text))
    except ValueError:
        raise VenueGarbled(f"{field}: {text[:DIGITS_MAX]!r} is no whole number") from None


def _plain(text: str) -> str:
    """The text, where nothing but sign, digits, point and exponent can be in it. Python reads more than that as a
    number: other scripts' digits, spaces around and underscores between them. Raises ValueError."""
    if not text.isascii() or "_" in text or text.strip() != text:
        raise ValueError(text)
    return text


def _above_zero(text: str, field: str) -> Decimal:
    value = decimal(text, field)
    if value <= 0:
        raise VenueGarbled(f"{field}: {text!r} is not above 0")
    return value


def side(text: str | None, field: str) -> Side:
    """`Buy` or `Sell`. Raises VenueGarbled for anything else."""
    found = SIDES.get(text or "")
    if found is None:
        raise VenueGarbled(f"{field}: {text!r}, allowed: Buy Sell")
    return found


class Grid:
    """Strings of one instrument to ticks and lots; remembers what it has seen, because a book repeats itself."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.known_ticks: dict[str, int] = {}
        self.known_lots: dict[str, int] = {}
        """What it has seen, for whoever asks for many at once; only `ticks` and `lots` add to them."""
        self.tick_step, self.lot_step = Step(instrument.tick_size), Step(instrument.lot_size)

    def ticks(self, text: str, field: str) -> int:
        """A price > 0 in ticks. Raises VenueGarbled."""
        known = self.seen_ticks(text)
        return known or self._keep_ticks(text, price_ticks(text, field, self.instrument))

    def lots(self, text: str, field: str) -> int:
        """A quantity >= 0 in lots. Raises VenueGarbled."""
        known = self.known_lots.get(text)
        if known is None:
            known = self.lot_step.count(text) or qty_lots(text, field, self.instrument)
            if len(self.known_lots) >= _MEMO_MAX:
                self.known_lots.clear()
            self.known_lots[text] = known
        return known

    def seen_ticks(self, price: str) -> int:
        """In ticks what was a price before, or is one at first sight; 0 for any other text."""
        known = self.known_ticks.get(price)
        if known is None:
            known = self.tick_step.count(price)
            if known:
                self._keep_ticks(price, known)
        return known

    def _keep_ticks(self, price: str, ticks: int) -> int:
        if len(self.known_ticks) >= _MEMO_MAX:
            self.known_ticks.clear()
        self.known_ticks[price] = ticks
        return ticks

    def levels(self, rows: list[tuple[str, str]], field: str) -> tuple[Level, ...]:
        """Book rows in the order they came."""
        ticks, lots = self.known_ticks, self.known_lots
        found: list[Level] = []
        for price, size in rows:
            tick, lot = ticks.get(price), lots.get(size)
            if tick is None:
                tick = self.ticks(price, field)
            if lot is None:
                lot = self.lots(size, field)
            found.append((tick, lot))
        return tuple(found)


class Step:
    """Plain decimal texts to multiples of one step, in whole numbers: most of what a venue writes.

    `units` of the last of `places` decimals. `scanned_to`: where the last `scan` ended, as far as it found a number.
    """

    def __init__(self, step: Decimal) -> None:
        _, digits, exponent = step.as_tuple()
        self._places = -int(exponent)
        self._units = int("".join(map(str, digits)))
        self._powers: list[int] = [10**missing for missing in range(max(0, self._places) + 1)]
        self.scanned_to: i64 = 0
        self._scan_places: i64 = self._places if self._places <= MAGNITUDE_MAX else -1
        self._scan_units: i64 = self._units if self._scan_places >= 0 and len(digits) <= MAGNITUDE_MAX else 0

    def count(self, text: str) -> int:
        """How many steps a text of digits and at most one point is; 0 for anything that wants a closer look."""
        if IS_COMPILED and text.isascii():
            found = self.scan(text.encode(), 0)
            return found if found > 0 and self.scanned_to == len(text) else 0
        return self.cut(text)

    def cut(self, text: str) -> int:
        """As `count`, by taking the text to pieces: interpreted that is several times as fast as to look at each."""
        point = text.find(".")
        if point < 0:
            digits, missing = text, self._places
        else:
            digits, missing = text[:point] + text[point + 1 :], self._places - (len(text) - point - 1)
        if missing < 0 or len(digits) > MAGNITUDE_MAX or not (digits.isdecimal() and digits.isascii()):
            return 0
        number = int(digits) * self._powers[missing]
        if self._units == 1:
            return number
        return 0 if number % self._units else number // self._units

    def scan(self, raw: bytes, at: i64) -> i64:
        """The digits with at most one point that stand there, in steps; NO_STEPS where it takes a closer look."""
        first: i64 = at
        end: i64 = len(raw)
        point: i64 = 0
        number: i64 = 0
        while at < end:
            char: i64 = raw[at]
            if _ZERO <= char <= _NINE:
                number = number * 10 + (char - _ZERO)
            elif char == _POINT and not point:
                point = at + 1
            else:
                break
            at += 1
            if at - first > MAGNITUDE_MAX:
                return NO_STEPS
        missing: i64 = self._scan_places
        units: i64 = self._scan_units
        digits: i64 = at - first
        if point:
            missing -= at - point
            digits -= 1
        if digits < 1 or missing < 0 or digits + missing > MAGNITUDE_MAX or not units:
            return NO_STEPS
        self.scanned_to = at
        while missing:
            number *= 10
            missing -= 1
        if units == 1:
            return number
        if number % units:
            return NO_STEPS
        return number // units


NO_STEPS: Final = -1
_POINT: Final = 46  # as numbers: a call here would be looked up at each use
_ZERO: Final = 48
_NINE: Final = 57

IS_COMPILED: Final = not hasattr(decimal, "__code__")
"""Whether this is an extension: only what is interpreted has code. Such a bot reads numbers character by character."""


def price_ticks(text: str, field: str, instrument: Instrument) -> int:
    """A price > 0 in ticks. Raises VenueGarbled."""
    try:
        ticks = instrument.ticks(decimal(text, field))
    except NotOnGrid as error:
        raise VenueGarbled(f"{field}: {error}") from None
    if ticks <= 0:
        raise VenueGarbled(f"{field}: price {text!r} is not above 0")
    return ticks


def qty_lots(text: str, field: str, instrument: Instrument) -> int:
    """A quantity >= 0 in lots. Raises VenueGarbled."""
    try:
        lots = instrument.lots(decimal(text, field))
    except NotOnGrid as error:
        raise VenueGarbled(f"{field}: {error}") from None
    if lots < 0:
        raise VenueGarbled(f"{field}: quantity {text!r} is below 0")
    return lots


# ---- market data ----------------------------------------------------------------------------------------------------


def book_event(
    push: wire.Push | wire.BookPush, rows: wire.BookRows, grid: Grid, at_ns: int
) -> BookSnapshot | BookDelta:
    """One message of `orderbook.*`. `u` 1 means that the service restarted: a snapshot, whatever it calls itself."""
    bids, asks = grid.levels(rows.b, "data.b"), grid.levels(rows.a, "data.a")
    venue_at_ns = (push.cts or push.ts) * NS_PER_MS
    symbol = grid.instrument.symbol
    if push.type == "snapshot" or rows.u == 1:
        return BookSnapshot(
            at_ns,
            symbol,
            tuple(sorted((level for level in bids if level[1]), reverse=True)),
            tuple(sorted(level for level in asks if level[1])),
            rows.u,
            venue_at_ns,
        )
    if push.type != "delta":
        raise VenueGarbled(f"type: {push.type!r}, allowed: snapshot delta")
    return BookDelta(at_ns, symbol, bids, asks, rows.u, venue_at_ns)


def trade_event(row: wire.TradeRow, grid: Grid, at_ns: int) -> TradePrinted:
    """One trade of a message of `publicTrade.*`."""
    price, size = grid.ticks(row.p, "data.p"), grid.lots(row.v, "data.v")
    return TradePrinted(at_ns, row.s, price, size, side(row.S, "data.S"), row.T * NS_PER_MS)


def top_of_book(rows: wire.BookRows) -> TopOfBook:
    """The best of each side. Raises VenueGarbled where a side is empty: no price is not a price."""
    for field, levels in (("result.b", rows.b), ("result.a", rows.a)):
        if not levels:
            raise VenueGarbled(f"{field}: {rows.s} has no such side of the book")
    bid = max(_above_zero(price, "result.b") for price, _ in rows.b)
    ask = min(_above_zero(price, "result.a") for price, _ in rows.a)
    return TopOfBook(rows.s, bid, ask, rows.cts or rows.ts)


def instrument(row: wire.InstrumentRow, category: Category) -> Instrument:
    """The filters of one symbol. Raises VenueGarbled where a step is missing or not above 0."""
    lot = row.lot_size_filter
    step, step_field = (lot.qty_step, "qtyStep") if category == "linear" else (lot.base_precision, "basePrecision")
    notional, notional_field = (
        (lot.min_notional_value, "minNotionalValue") if category == "linear" else (lot.min_order_amt, "minOrderAmt")
    )
    tick_size, lot_size = decimal(row.price_filter.tick_size, "tickSize"), decimal(step, step_field)
    if tick_size <= 0 or lot_size <= 0:
        raise VenueGarbled(f"{row.symbol}: tickSize {tick_size} and {step_field} {lot_size} have to be above 0")
    return Instrument(
        symbol=row.symbol,
        category=category,
        base=row.base_coin,
        quote=row.quote_coin,
        tick_size=tick_size,
        lot_size=lot_size,
        qty_min=decimal(lot.min_order_qty, "minOrderQty"),
        qty_max=decimal(lot.max_order_qty, "maxOrderQty"),
        notional_min_quote=decimal(notional, notional_field),
    )


def listed_instrument(page: wire.InstrumentPage, symbol: str, category: Category) -> Instrument:
    """The one symbol out of an answer. Raises VenueRefused where the venue does not list it or it does not trade."""
    for row in page.rows:
        if row.symbol == symbol:
            if row.status != "Trading":
                raise VenueRefused(f"{symbol}: the venue's status is {row.status}, Trading is needed")
            return instrument(row, category)
    raise VenueRefused(f"{symbol}: the venue does not list it in category {category}")


# ---- the account ----------------------------------------------------------------------------------------------------


def order_status(row: wire.OrderRow) -> OrderStatus:
    """The venue's status. A post-only refusal is REJECTED, whichever of two statuses carries the reason."""
    found = STATUSES.get(row.order_status)
    if found is None:
        raise VenueGarbled(f"orderStatus: {row.order_status!r} of order {row.order_id} is none we know")
    if is_post_only_refusal(row) and found is OrderStatus.CANCELLED:
        return OrderStatus.REJECTED
    return found


def is_post_only_refusal(row: wire.OrderRow) -> bool:
    """True where the venue ended a post-only order because it would have taken."""
    return row.reject_reason == POST_ONLY_REASON


def venue_order(row: wire.OrderRow, instrument: Instrument, grid: Grid | None = None) -> VenueOrder:
    """An order as the venue shows it. An empty price (market orders have none) is 0 ticks.

    `grid`: of that instrument, where one is kept: what it has seen need not be worked out again.
    """
    if grid is None:
        grid = Grid(instrument)
    price = row.price
    ticks = grid.seen_ticks(price)
    if not ticks and price != "" and decimal(price, "price"):
        side(row.side, "side")  # as the message is read, from left to right: of two mistakes the first is named
        ticks = grid.ticks(price, "price")
    return VenueOrder(
        row.symbol,
        row.order_link_id,
        row.order_id,
        side(row.side, "side"),
        ticks,
        grid.lots(row.qty, "qty"),
        grid.lots(row.cum_exec_qty, "cumExecQty"),
        order_status(row),
        "" if row.reject_reason == "EC_NoError" else row.reject_reason,
        is_post_only_refusal(row),
    )


def fill(row: wire.ExecutionRow, instrument: Instrument, at_ns: int, grid: Grid | None = None) -> Filled | None:
    """An execution as a fill. None: funding or settlement, which move no quantity. An unknown type is garbled.

    `grid`: as of `venue_order`.
    """
    if row.exec_type in _NO_FILLS:
        return None
    if row.exec_type not in _FILLS:
        raise VenueGarbled(f"execType: {row.exec_type!r} of execution {row.exec_id} is none we know")
    price = _above_zero(row.exec_price, "execPrice")
    fill_side = side(row.side, "side")
    qty = row.exec_qty
    filled_lots = qty_lots(qty, "execQty", instrument) if grid is None else grid.lots(qty, "execQty")
    if not filled_lots:
        raise VenueGarbled(f"execQty: {row.exec_qty!r} of execution {row.exec_id} is no fill")
    return Filled(
        at_ns,
        execution_id=row.exec_id,
        client_order_id=row.order_link_id,
        venue_order_id=row.order_id,
        symbol=row.symbol,
        side=fill_side,
        price=price,
        qty_lots=filled_lots,
        fee_quote=_fee_quote(row, instrument, price, fill_side),
        is_maker=row.is_maker,
        venue_at_ns=whole(row.exec_time, "execTime") * NS_PER_MS,
        fee_base=_fee_base(row, instrument, fill_side),
    )


def funding(row: wire.ExecutionRow, instrument: Instrument, at_ns: int) -> FundingPaid | None:
    """A funding settlement, which the venue lists as an execution whose fee is what was paid. None: it is no such."""
    if row.exec_type != "Funding":
        return None
    price = decimal(row.exec_price, "execPrice")
    paid_quote = _fee_quote(row, instrument, price, Side.BUY)
    venue_at_ns = whole(row.exec_time, "execTime") * NS_PER_MS
    return FundingPaid(at_ns, row.exec_id, row.symbol, -paid_quote, venue_at_ns)


def execution(
    row: wire.ExecutionRow, instrument: Instrument, at_ns: int, grid: Grid | None = None
) -> Filled | FundingPaid | None:
    """An execution as whichever of the two it is; None for a settlement, which moves neither quantity nor money."""
    return funding(row, instrument, at_ns) or fill(row, instrument, at_ns, grid)


def _fee_quote(row: wire.ExecutionRow, instrument: Instrument, price: Decimal, fill_side: Side) -> Decimal:
    """Positive paid, negative rebate, as the venue has it; a fee in base is worth the execution's price.

    Without a currency, linear means quote. Spot takes a fee from what is received (buy → base, sell → quote), and pays
    a rebate in the other.
    """
    fee, currency = _fee(row, instrument, fill_side)
    total = _worth(fee, currency, "feeCurrency", instrument, price)
    for extra in row.extra_fees if isinstance(row.extra_fees, list) else ():
        total += _worth(decimal(extra.fee, "extraFees.fee"), extra.fee_coin, "extraFees.feeCoin", instrument, price)
    return total


def _fee(row: wire.ExecutionRow, instrument: Instrument, fill_side: Side) -> tuple[Decimal, str]:
    """The fee and its currency."""
    fee = decimal(row.exec_fee, "execFee") if row.exec_fee else Decimal(0)
    currency = row.fee_currency
    if not currency:
        in_base = instrument.category == "spot" and (fill_side is Side.BUY) == (fee >= 0)
        currency = instrument.base if in_base else instrument.quote
    return fee, currency


def _fee_base(row: wire.ExecutionRow, instrument: Instrument, fill_side: Side) -> Decimal:
    """What the wallet's coin was charged, base: of a contract nothing, whatever its fee was paid in."""
    if instrument.category != "spot":
        return NO_COIN
    fee, currency = _fee(row, instrument, fill_side)
    charged = [(fee, currency)]
    if isinstance(row.extra_fees, list):
        charged += [(decimal(extra.fee, "extraFees.fee"), extra.fee_coin) for extra in row.extra_fees]
    return sum((amount for amount, coin in charged if coin == instrument.base), Decimal(0))


def _worth(amount: Decimal, currency: str, field: str, instrument: Instrument, price: Decimal) -> Decimal:
    if currency == instrument.quote or not amount:
        return amount
    if currency == instrument.base:
        return amount * price
    raise VenueGarbled(f"{field}: {currency!r} of {instrument.symbol}, allowed: {instrument.quote} {instrument.base}")


def position(rows: list[wire.PositionRow], symbol: str) -> Position:
    """The position of a symbol in one-way mode. Raises VenueGarbled for no row (not "flat") and for hedge mode."""
    own = [row for row in rows if row.symbol == symbol]
    if not own:
        raise VenueGarbled(f"result.list: no row for {symbol}")
    if len(own) > 1 or own[0].position_idx:
        raise VenueGarbled(f"positionIdx: {symbol} is in hedge mode, one-way is needed")
    row = own[0]
    size = decimal(row.size, "size")
    if size < 0:
        raise VenueGarbled(f"size: {row.size!r} is below 0: its sign is the side's")
    if not size:
        return Position(symbol, Decimal(0), Decimal(0))
    entry, entry_field = (row.avg_price, "avgPrice") if row.avg_price else (row.entry_price, "entryPrice")
    return Position(symbol, size * side(row.side, "side").sign, _above_zero(entry, entry_field))


def wallet(rows: wire.WalletList, quote: str, category: Category) -> Wallet:
    """The account's statement. Raises VenueGarbled for what it does not say: that is never zero.

    Linear: equity of the quote coin, and what was paid in: its balance less everything that was realised on it, profit,
    fees and funding alike, so that a transfer is neither profit nor loss. Spot: the account's worth in dollars, because
    a purchase only changes coins; transfers are not told apart there.
    """
    if not rows.rows:
        raise VenueGarbled("result.list: no account")
    account = rows.rows[0]
    margin = decimal(account.total_initial_margin, "totalInitialMargin")
    if category == "spot":
        return Wallet(decimal(account.total_equity, "totalEquity"), margin, Decimal(0))
    for coin in account.coin:
        if coin.coin == quote:
            equity = decimal(coin.equity, "coin.equity")
            realised = decimal(coin.cum_realised_pnl, "coin.cumRealisedPnl")
            return Wallet(equity, margin, decimal(coin.wallet_balance, "coin.walletBalance") - realised)
    raise VenueGarbled(f"result.list.coin: no row for {quote}")


def fee_rates(page: wire.FeeRatePage, symbol: str) -> FeeRates:
    """Rates of one symbol, fractions to basis points. Raises VenueGarbled where the venue does not name it."""
    for row in page.rows:
        if row.symbol == symbol:
            maker, taker = decimal(row.maker_fee_rate, "makerFeeRate"), decimal(row.taker_fee_rate, "takerFeeRate")
            return FeeRates(maker * BPS_PER_ONE, taker * BPS_PER_ONE, f"api:bybit:{symbol}")
    raise VenueGarbled(f"result.list: no fee rate for {symbol}")


def coin_balance(wallet: wire.WalletList, coin: str) -> Decimal:
    """What the account holds of a coin; 0 where the venue shows the account without a row of that coin."""
    if not wallet.rows:
        raise VenueGarbled("result.list: no account")
    for row in wallet.rows[0].coin:
        if row.coin == coin:
            return decimal(row.wallet_balance, "coin.walletBalance")
    return Decimal(0)


def coin_equity_quote(wallet: wire.WalletList, coin: str) -> Decimal:
    """Equity of one coin, in that coin. Raises VenueGarbled where the venue shows no such coin: that is not zero."""
    for row in (row for account in wallet.rows for row in account.coin if row.coin == coin):
        return decimal(row.equity, "coin.equity")
    raise VenueGarbled(f"result.list.coin: no row for {coin}")
