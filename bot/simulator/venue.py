"""The venue's core: requests, the market and faults act on one book and its accounts. Pure: `now_ns` is an argument.

A request changes state at once and returns, or raises `Refused` and changes nothing. What happened is collected and
drained by whoever mounts the venue: that is why confirmations reach clients apart from the answer to their request.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.simulator import admission
from bot.simulator.accounts import Account, Fees, Holder
from bot.simulator.faults import Fault, FaultPlan
from bot.simulator.funding import FUNDING_NS, FundingSchedule
from bot.simulator.market import (
    Action,
    BookChange,
    BookReset,
    LevelsMove,
    Market,
    MarketOrder,
    PassingOrder,
    RecordedTrade,
)
from bot.simulator.matching import NO_PRICE, Book, Match
from bot.simulator.orders import (
    EndReason,
    Happening,
    NewOrder,
    Order,
    PublicTrade,
    Refusal,
    Refused,
    Status,
    TimeInForce,
    WalletChanged,
)
from bot.simulator.texts import Counts
from bot.simulator.trading import Trading

_BUY: Final = Side.BUY
_SELL: Final = Side.SELL
_POST_ONLY: Final = TimeInForce.POST_ONLY
_FILLED: Final = Status.FILLED
_NO_REASON: Final = EndReason.NONE


class Venue:
    """One symbol, its market, all accounts trading on it, and the plan of what goes wrong.

    `faults`: the plan of the exchange that it belongs to; alone it has one of its own.
    """

    def __init__(
        self,
        instrument: Instrument,
        market: Market,
        *,
        seed: int,
        now_ns: int,
        fees: Fees | None = None,
        funding_ns: int = FUNDING_NS,
        faults: FaultPlan | None = None,
    ) -> None:
        self.instrument = instrument
        self.fees = fees or Fees()
        self.faults = FaultPlan(seed) if faults is None else faults
        self.funding = FundingSchedule(seed, funding_ns, now_ns)
        self._market = market
        self._trading = Trading(instrument, self.fees, seed, fixed_background=market.fixed_background)
        self.book: Book = self._trading.book
        self.accounts: dict[str, Account] = self._trading.accounts
        self._mark_half_ticks = 0
        self._bounds = admission.Bounds(instrument)
        self.prices_seen, self.sizes_seen = Counts(), Counts()
        """What clients wrote of prices and quantities, as ticks and lots."""
        self._order_count = 0
        self._apply(market.start(now_ns), now_ns)
        self._next_at_ns = market.next_at_ns()

    # ---- time and reading ---------------------------------------------------------------------------------------

    @property
    def sequence(self) -> int:
        """Rises with every execution and print."""
        return self._trading.sequence

    @property
    def recent_trades(self) -> list[PublicTrade]:
        """Oldest first."""
        return self._trading.recent_trades

    @property
    def mark_half_ticks(self) -> int:
        """The mark: the middle between the background's best prices, in half ticks."""
        return self._mark_half_ticks

    def next_at_ns(self) -> int:
        """When the market moves next."""
        return self._next_at_ns

    def advance(self, now_ns: int) -> int:
        """Let the market do everything that is due; returns how many steps that were."""
        steps = 0
        while (at_ns := self._next_at_ns) <= now_ns:
            while at_ns >= self.funding.due_ns:
                self._settle_funding(self.funding.due_ns)
            actions = self._market.step()
            self._next_at_ns = self._market.next_at_ns()
            for action in actions:
                self._apply(action, at_ns)
            self._finish(at_ns)
            steps += 1
        return steps

    def _settle_funding(self, at_ns: int) -> None:
        self._trading.settle_funding(self.funding.rate(at_ns), self._mark_half_ticks, at_ns)
        self.funding.due_ns = self.funding.next_ns(at_ns)
        self._finish(at_ns)

    @property
    def has_news(self) -> bool:
        """Whether anything happened since the last `drain`."""
        return bool(self._trading.happenings)

    def drain(self) -> list[Happening]:
        """What happened since the last call, in order."""
        happenings, self._trading.happenings = self._trading.happenings, []
        return happenings

    # ---- requests -----------------------------------------------------------------------------------------------

    def open_account(self, api_key: str, api_secret: str, equity_quote: Decimal, now_ns: int) -> Account:
        """A new account with a wallet of its own. Names are sim-1, sim-2 … in order."""
        number = len(self.accounts) + 1
        quote = self.instrument.quote
        return self.enroll(
            Holder(f"sim-{number}", 100_000 + number, api_key, api_secret, now_ns, quote, {quote: equity_quote})
        )

    def enroll(self, holder: Holder) -> Account:
        """The account of a holder here: his wallet, and an empty position."""
        account = self.accounts[holder.name] = Account(holder, self.instrument, self)
        return account

    def create(self, account: Account, new: NewOrder, now_ns: int) -> Order:
        """Take an order. A post-only order that would take is taken as well, and then ends for that reason."""
        admission.check_link_id(account, new.link_id)
        admission.check_lots(self.instrument, new.qty_lots)
        is_market = new.price_ticks is None
        if new.price_ticks is None:
            if self.book.best(new.side.opposite) is None:
                raise Refused(Refusal.NO_LIQUIDITY, "nothing stands on the side a market order would take from")
            price = admission.market_limit_ticks(new.side, self._mark_half_ticks)
        else:
            price = new.price_ticks
            admission.check_price(self.instrument, new.side, price, self._mark_half_ticks)
        qty = new.qty_lots
        if new.reduce_only:
            qty = min(qty, account.reducible_lots(new.side))
            if qty == 0:
                raise Refused(Refusal.REDUCE_ONLY, "current position is zero, cannot fix reduce-only order qty")
        else:
            admission.check_notional(self.instrument, price, qty)
            self._check_funds(account, new.side, price, qty)
        if account.is_spot and new.tif is TimeInForce.POST_ONLY and self.book.would_cross(new.side, price):
            raise Refused(Refusal.POST_ONLY_WOULD_TAKE, "Order price would take, and the order is post-only")
        self._order_count += 1
        order = Order(
            self._order_count, self._trading.new_id(), new.link_id, account.name, new.side, price, qty,
            TimeInForce.IOC if is_market else new.tif, is_market, new.reduce_only, now_ns, now_ns,
            self_match=new.self_match,
        )  # fmt: skip
        self._trading.admit(account, order)
        self._enter(account, order, now_ns)
        return order

    def amend(self, account: Account, order: Order, price_ticks: int | None, qty_lots: int | None, now_ns: int) -> None:
        """Change price or total quantity of an open order. It keeps its place only where nothing but size shrinks."""
        price = order.price_ticks if price_ticks is None else price_ticks
        qty = order.qty_lots if qty_lots is None else qty_lots
        if not order.is_open:
            raise Refused(Refusal.ORDER_NOT_FOUND, "order not exists or too late to replace")
        if price == order.price_ticks and qty == order.qty_lots:
            raise Refused(Refusal.ORDER_UNCHANGED, "The order remains unchanged as the parameters entered match")
        admitted = self._bounds.admit(order.side, price, qty, self._mark_half_ticks)
        if not admitted:
            admission.check_lots(self.instrument, qty)
        if qty <= order.filled_lots:
            raise Refused(Refusal.QTY_INVALID, f"qty of {qty} lots is not above the {order.filled_lots} lots filled")
        if not admitted:
            admission.check_price(self.instrument, order.side, price, self._mark_half_ticks)
        if order.reduce_only:
            qty = min(qty, order.qty_lots + account.reducible_lots(order.side))
        else:
            if not admitted:
                admission.check_notional(self.instrument, price, qty)
            self._check_funds(account, order.side, price, max(0, qty - order.qty_lots))
        keeps_place = price == order.price_ticks and qty < order.qty_lots
        stays = not keeps_place and self._stays_passive(order, price)
        if not keeps_place and not stays:
            self.book.remove(order.key)
        order.price_ticks, order.qty_lots, order.updated_at_ns = price, qty, now_ns
        if keeps_place:
            self.book.shrink(order.key, order.left_lots)
        elif stays:
            self.book.move(order.key, price, order.left_lots)
        else:
            self._enter(account, order, now_ns)
            return
        self._trading.tell(account, order)
        self._finish(now_ns)

    def _stays_passive(self, order: Order, price_ticks: int) -> bool:
        """Whether nothing can happen to an order at that price but to rest there."""
        if order.tif is not _POST_ONLY or order.reduce_only or self.faults.armed:
            return False
        return not self.book.would_cross(order.side, price_ticks)

    def _check_funds(self, account: Account, side: Side, price_ticks: int, more_lots: int) -> None:
        if account.is_spot:
            account.check_coins(side, price_ticks, more_lots)
        else:
            account.check_margin(side, more_lots, self._mark_half_ticks)

    def cancel(self, account: Account, order: Order, now_ns: int) -> None:
        """Take an open order out. Raises Refused where it has already ended; a filled one is told of once more."""
        if order.status is _FILLED and order.end_reason is _NO_REASON:
            order.end_reason = EndReason.RACED
            self._trading.tell(account, order)
            self._finish(now_ns)
        if not order.is_open:
            raise Refused(Refusal.ORDER_NOT_FOUND, "order not exists or too late to cancel")
        self._trading.end(account, order, EndReason.BY_REQUEST, now_ns)
        self._finish(now_ns)

    # ---- faults -------------------------------------------------------------------------------------------------

    def arm(self, kind: str, account: str, parameters: Mapping[str, object], now_ns: int) -> Fault:
        """Arm a fault and let those of the venue's core that are due fire. Raises FaultRefused."""
        fault = self.faults.arm(kind, account, parameters, now_ns)
        self.befall(fault, now_ns)
        return fault

    def befall(self, fault: Fault, now_ns: int) -> None:
        """What an armed fault does to this symbol. Raises Refused where it cannot be done."""
        match fault.kind:
            case "foreign_order":
                self._place_foreign(fault, now_ns)
            case "loss_over":
                self._end_losses(now_ns)
            case "wrong_fill_price":
                self._trading.wrong_price = self._worse_price
            case "position_altered":
                account = self.accounts[fault.account]
                account.alter_position(int(fault.number("lots")), self._mark_half_ticks, now_ns)
                self._trading.touch_wallet(account)
            case "insolvent":
                account = self.accounts[fault.account]
                account.wallet_quote += fault.number("equity_quote") - account.equity_quote(self._mark_half_ticks)
                self._trading.touch_wallet(account)
        self._finish(now_ns)

    def _worse_price(self, account: Account, order: Order, match: Match, now_ns: int) -> Match:
        fault = self.faults.fire("wrong_fill_price", account.name, now_ns, symbol=self.instrument.symbol)
        if not self.faults.all_waiting("wrong_fill_price"):
            self._trading.wrong_price = None
        if fault is None:
            return match
        price = max(1, match.price_ticks + order.side.sign * int(fault.number("ticks")))
        return Match(price, match.lots, match.maker)

    def _place_foreign(self, fault: Fault, now_ns: int) -> None:
        side = Side(fault.parameters["side"])
        away = 1 - side.sign * fault.number("distance_pct") / 100
        price = int(self._mark_half_ticks * away / 2)
        self.create(
            self.accounts[fault.account],
            NewOrder("", side, price, int(fault.number("qty_lots")), TimeInForce.POST_ONLY),
            now_ns,
        )

    def _enter(self, account: Account, order: Order, now_ns: int) -> None:
        enforced = True
        if order.tif is _POST_ONLY and self.faults.armed:
            fault = self.faults.fire("crossing", account.name, now_ns, symbol=self.instrument.symbol)
            if fault is not None:
                self._jump_through(order, int(fault.number("through_ticks")), now_ns)
                enforced = False
        self._trading.enter(account, order, now_ns, post_only_enforced=enforced)
        self._finish(now_ns)

    def _jump_through(self, order: Order, through_ticks: int, now_ns: int) -> None:
        opposite = self.book.best_background(order.side.opposite)
        if opposite is None:
            return
        target = order.price_ticks - order.side.sign * through_ticks
        if (target - opposite) * order.side.sign < 0:
            self._apply(self._market.jump(target - opposite), now_ns)

    def _fire_losses(self, now_ns: int) -> bool:
        for fault in self.faults.all_waiting("loss"):
            if fault.symbol not in ("", self.instrument.symbol):
                continue
            account = self.accounts[fault.account]
            lots = account.position.lots
            notional = self.instrument.tick_size * self.instrument.lot_size * abs(lots) * self._mark_half_ticks / 2
            if lots == 0 or notional < fault.number("position_quote_min"):
                continue
            fault.fired_at_ns, fault.symbol = now_ns, self.instrument.symbol
            ticks = int(self._mark_half_ticks * fault.number("jump_pct") / 200)
            fault.moved_ticks = -ticks if lots > 0 else ticks
            self._apply(self._market.jump(fault.moved_ticks), now_ns)
            taker = Side.SELL if lots > 0 else Side.BUY
            touch = self.book.best_background(taker.opposite)
            if touch is not None:
                self._trading.print(taker, touch, 1, now_ns)
            return True
        return False

    def _end_losses(self, now_ns: int) -> None:
        losses = [fault for fault in self.faults.of_kind("loss") if fault.symbol == self.instrument.symbol]
        back = -sum(fault.moved_ticks for fault in losses)
        for fault in losses:
            fault.moved_ticks = 0
        if back:
            self._apply(self._market.jump(back), now_ns)

    # ---- the market ---------------------------------------------------------------------------------------------

    def _apply(self, action: Action, now_ns: int) -> None:
        trading, book = self._trading, self.book
        if isinstance(action, LevelsMove):
            action.tell(book.bids, book.asks)
            if action.is_new_book and trading.background_taken:
                self._reset_background(action.whole())
        elif isinstance(action, BookChange):
            book.bids.change_background(action.bids)
            book.asks.change_background(action.asks)
        elif isinstance(action, PassingOrder):
            trading.market_passes(action.taker, action.limit_ticks, action.lots, now_ns)
            return
        elif isinstance(action, MarketOrder):
            trading.market_takes(action.taker, action.limit_ticks, action.lots, now_ns)
            return
        elif isinstance(action, RecordedTrade):
            trading.recorded_trade(action.taker, action.price_ticks, action.lots, now_ns)
            return
        elif isinstance(action, BookReset):
            self._reset_background(action)
        else:
            ticks = action.ticks
            for side in (_BUY, _SELL):
                moved = {price + ticks: lots for price, lots in book.background(side).items() if price + ticks > 0}
                book.replace_background(side, moved)
        if book.any_own:
            trading.fill_what_the_market_stands_through(now_ns)
        bid, ask = book.bids.best_background(), book.asks.best_background()
        if NO_PRICE not in (bid, ask):
            self._mark_half_ticks = bid + ask

    def _reset_background(self, whole: BookReset) -> None:
        self.book.bids.replace_background(whole.bids)
        self.book.asks.replace_background(whole.asks)
        self._trading.background_taken = False

    def _finish(self, now_ns: int) -> None:
        if self.faults.armed:
            while self._fire_losses(now_ns):
                pass
        trading = self._trading
        if trading.touched:
            touched, trading.touched = trading.touched, []
            for account in touched:
                trading.happenings.append(account.position_changed)
                if account.is_wallet_touched:
                    trading.happenings.append(WalletChanged(account.name))
                account.is_touched = account.is_wallet_touched = False
