"""A key of the simulated venue: what is said of it, replacing it with a grace, and what cannot be said."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.simulator.accounts import Holder
from bot.simulator.api_keys import DAY_NS, NEVER, FormerKey, Standing, StandingRefused, changed, utc
from bot.simulator.bybit_access import V5Error, authenticate_socket, holder_of_key
from bot.simulator.exchange import Exchange
from bot.simulator.listings import GENERATED, exchange_of, generated

NOW_NS = 1_800_000_000 * 1_000_000_000


def exchange_with_holder() -> tuple[Exchange, Holder]:
    exchange = exchange_of([GENERATED], generated, seed=1, now_ns=NOW_NS)
    return exchange, exchange.open_account("new-key", "new-secret", Decimal(1000), NOW_NS)


def test_a_replaced_key_works_until_its_grace_is_over() -> None:
    exchange, holder = exchange_with_holder()
    holder.keys.former["old-key"] = FormerKey("old-secret", NOW_NS + 5)
    assert holder_of_key(exchange, "new-key", NOW_NS) == (holder, "new-secret")
    assert holder_of_key(exchange, "old-key", NOW_NS + 4) == (holder, "old-secret")
    assert holder_of_key(exchange, "old-key", NOW_NS + 5) is None
    assert holder_of_key(exchange, "no-key", NOW_NS) is None


def test_an_expired_key_is_refused_as_expired() -> None:
    exchange, holder = exchange_with_holder()
    holder.keys.standing = changed(holder.keys.standing, {"expires_in_days": -1}, NOW_NS)
    with pytest.raises(V5Error) as refused:
        authenticate_socket(exchange, ["new-key", NOW_NS, "any"], NOW_NS)
    assert refused.value.code == 33004


def test_days_are_counted_from_the_venue_s_clock() -> None:
    found = changed(Standing(), {"expires_in_days": 3, "age_days": 91}, NOW_NS)
    assert (found.expires_at_ns, found.created_at_ns) == (NOW_NS + 3 * DAY_NS, NOW_NS - 91 * DAY_NS)
    assert (utc(None), utc(NOW_NS)) == (NEVER, "2027-01-15T08:00:00Z")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"withdraws": "yes"}, "withdraws: 'yes' is not true or false"),
        ({"ips": []}, "ips: [] is not a list of addresses"),
        ({"expires_in_days": 1.5}, "expires_in_days: 1.5 is outside -36500 to 36500"),
        ({"margin_mode": "NONE"}, "margin_mode: 'NONE' is not one of REGULAR_MARGIN"),
        ({"maker_fee_rate": "1.5"}, "maker_fee_rate: '1.5' is not a decimal fraction below 1"),
        ({"colour": 1}, "colour: unknown; allowed are read_only"),
    ],
)
def test_what_a_key_cannot_be_is_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(StandingRefused) as refused:
        changed(Standing(), change, NOW_NS)
    assert str(refused.value).startswith(said)
