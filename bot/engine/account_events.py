"""What the venue says of the account as a whole: funding, fee rates, equity and margin."""

from __future__ import annotations

from bot.domain import events as ev
from bot.engine.conditions import Conditions
from bot.engine.losses import Losses
from bot.engine.parameters import UBPS
from bot.engine.performance import Performance
from bot.engine.state import State, Wallet
from bot.engine.stopping import Stopping


class AccountEvents:
    """Applies them to ledger, limits and curves."""

    def __init__(
        self, state: State, stopping: Stopping, performance: Performance, conditions: Conditions, losses: Losses
    ) -> None:
        self._state = state
        self._stopping = stopping
        self._performance = performance
        self._conditions = conditions
        self._losses = losses

    def funding_paid(self, event: ev.FundingPaid) -> None:
        """Book a funding settlement, once."""
        state = self._state
        if event.symbol not in state.books:
            return
        new = state.ledger.record_funding(event)
        state.note(
            "INFO" if new else "DEBUG", "funding_paid" if new else "idem_hit", symbol=event.symbol,
            funding_id=event.funding_id, amount_quote=str(event.amount_quote),
        )  # fmt: skip
        if new:
            self._losses.look()

    def fees_read(self, event: ev.FeesRead) -> None:
        """In auto mode they decide from now on; where they had to be as signed and are not, quoting holds."""
        state = self._state
        if event.symbol not in state.books:
            return
        own = state.own[event.symbol]
        state.venue_fees[event.symbol] = (event.maker_bps, event.taker_bps)
        state.note("INFO", "fees_read", symbol=event.symbol, fee_source=event.source, maker_bps=str(event.maker_bps),
                   taker_bps=str(event.taker_bps))  # fmt: skip
        if own.fee_mode == "auto" and own.mode != "shadow":
            self._performance.set_fee(event.symbol, int(event.maker_bps * UBPS))
        signed = (own.fee_maker_bps - own.rebate_maker_bps, own.fee_taker_bps)
        if own.require_fee_resolution and (event.maker_bps, event.taker_bps) != signed:
            state.counters.add("mm_limit_breaches_total", "fees")
            detail = f"{event.symbol} venue {event.maker_bps}/{event.taker_bps} bps, signed {signed[0]}/{signed[1]}"
            self._stopping.enter("fee_mismatch", detail)

    def wallet_read(self, event: ev.WalletRead) -> None:
        """Equity and margin by the venue's word: leverage, margin ratio and the losses it knows of."""
        state = self._state
        state.wallet = Wallet(state.now_ns, event.equity_quote, event.margin_used_quote)
        if not self._conditions.is_sound(state.wallet):
            state.due_ns = 0
        state.venue_equity.note(event.equity_quote - event.transfers_quote, state.now_ns)
        state.limits_version += 1
        self._losses.look()

    def equity_carried(self, event: ev.EquityCarried) -> None:
        """What this account lost under an earlier journal counts on."""
        state = self._state
        state.equity.carry(event.samples, event.peak_quote)
        state.note("INFO", "equity_carried", samples=len(event.samples), peak_quote=str(event.peak_quote))
