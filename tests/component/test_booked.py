"""What an attempt came to once its account is flat: by the venue's executions, to the last digit, or not known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from bot.booked import Booked, Execution, Flattening, NotBooked, booked_net, read_booked, write_booked
from bot.domain.events import Filled, FundingPaid, InstrumentsRead
from bot.domain.instrument import Instrument
from bot.domain.order import Side
from bot.domain.venue_events import instruments_read
from bot.journal import Journal
from bot.runtime.kill_switch_report import FlattenSent

MS = 1_000_000
BEGAN_MS, LAST_MS = 1_700_000_000_000, 1_700_000_600_000
FAR_MS = 1_700_003_000_000
"""When the venue is asked: long after the full hour before."""
BTC = Instrument("BTCUSDT", "linear", "BTC", "USDT", *(Decimal(x) for x in ("0.1", "0.001", "0.001", "100", "5")))
BOUGHT_AT, SOLD_AT = Decimal("100000.1"), Decimal("97000.0")


def fill(name: str, at_ms: int, side: Side, lots: int, price: Decimal, fee: str) -> Filled:
    own = "slwq-1-1" if side is Side.BUY else "slwf-1-1"
    return Filled(at_ms * MS, name, own, "v", "BTCUSDT", side, price, lots, Decimal(fee), side is Side.BUY, at_ms * MS)


BOUGHT = fill("e1", BEGAN_MS + 1000, Side.BUY, 100, BOUGHT_AT, "-0.5")
PAID = FundingPaid((BEGAN_MS + 2000) * MS, "f1", "BTCUSDT", Decimal("-1.25"), (BEGAN_MS + 2000) * MS)
SOLD = fill("e2", LAST_MS + 300_000, Side.SELL, 100, SOLD_AT, "5.335")
NET = 100 * Decimal("0.001") * (SOLD_AT - BOUGHT_AT) + Decimal("0.5") - Decimal("1.25") - Decimal("5.335")


def journal(folder: Path, *events: Execution | InstrumentsRead) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    kept = Journal(folder / "journal.db", {"account": "a", "run": "r"}, synchronous="NORMAL")
    for one in (instruments_read(BTC, BEGAN_MS * MS), *events, instruments_read(BTC, LAST_MS * MS)):
        kept.event(one)
    kept.commit({})
    kept.close()
    return folder / "journal.db"


class Venue:
    """Tells executions of an account; `asked` says from when on it was asked."""

    def __init__(self, executions: Sequence[Execution], instruments: Mapping[str, Instrument] | None = None) -> None:
        self.executions, self.asked = executions, list[int]()
        self.instruments = instruments or {"BTCUSDT": BTC}

    def told(self, symbol: str, since_ms: int) -> tuple[Instrument, Sequence[Execution]]:
        self.asked.append(since_ms)
        found = [one for one in self.executions if one.symbol == symbol and one.venue_at_ns >= since_ms * MS]
        return self.instruments[symbol], found


def test_the_slippage_and_the_fees_of_the_flatten_are_the_attempts(tmp_path: Path) -> None:
    venue = Venue([BOUGHT, PAID, SOLD])
    found = booked_net(journal(tmp_path, BOUGHT, PAID), ["BTCUSDT"], venue.told, 0, FAR_MS)
    assert found == NET == Decimal("-306.095")
    assert venue.asked == [BEGAN_MS], "nothing from before its run is asked for"


def test_what_the_bot_never_heard_of_in_the_middle_of_its_run_counts(tmp_path: Path) -> None:
    venue = Venue([BOUGHT, PAID, SOLD])
    assert booked_net(journal(tmp_path, PAID), ["BTCUSDT"], venue.told, 0, FAR_MS) == NET


def test_what_the_bot_never_heard_of_counts_also_where_it_sums_to_flat(tmp_path: Path) -> None:
    missed_ms = LAST_MS - 150_000
    missed: list[Execution] = [
        fill("e7", missed_ms, Side.BUY, 100, Decimal(100000), "0"),
        fill("e8", missed_ms + 1, Side.SELL, 100, Decimal(97000), "0"),
        FundingPaid((missed_ms + 2) * MS, "f7", "BTCUSDT", Decimal(-17), (missed_ms + 2) * MS),
    ]
    assert booked_net(journal(tmp_path), ["BTCUSDT"], Venue(missed).told, 0, FAR_MS) == -317


HOUR_MS = 3_600_000
DUE_MS = (LAST_MS // HOUR_MS + 1) * HOUR_MS
"""A full hour, when a funding may fall due."""


@pytest.mark.parametrize(
    ("bought_s", "sold_s", "asked_s", "known"),
    [
        (-600, 8, 10, False),
        (-600, 8, 31, True),
        (-600, -60, 10, True),
        (-600, -2, 10, False),
        (7, 9, 12, True),
    ],
    ids=["held when it was due", "long enough ago", "flat by then", "hardly flat by then", "bought afterwards"],
)
def test_a_funding_that_may_have_fallen_due_just_now_is_waited_for(
    tmp_path: Path, bought_s: int, sold_s: int, asked_s: int, known: bool
) -> None:
    bought = fill("e1", DUE_MS + bought_s * 1000, Side.BUY, 100, Decimal(100000), "0")
    sold = fill("e2", DUE_MS + sold_s * 1000, Side.SELL, 100, Decimal(100000), "0")
    path, asked_ms = journal(tmp_path), DUE_MS + asked_s * 1000
    if known:
        assert booked_net(path, ["BTCUSDT"], Venue([bought, sold]).told, 0, asked_ms) == 0
        return
    with pytest.raises(NotBooked, match="BTCUSDT: a funding that fell due"):
        booked_net(path, ["BTCUSDT"], Venue([bought, sold]).told, 0, asked_ms)
    paid = FundingPaid(DUE_MS * MS, "f1", "BTCUSDT", Decimal(-17), DUE_MS * MS)
    assert booked_net(path, ["BTCUSDT"], Venue([bought, paid, sold]).told, 0, asked_ms) == -17


def test_without_a_journal_the_venue_alone_tells(tmp_path: Path) -> None:
    venue = Venue([BOUGHT, PAID, SOLD])
    assert booked_net(tmp_path / "journal.db", ["BTCUSDT"], venue.told, BEGAN_MS, FAR_MS) == NET
    assert set(venue.asked) == {BEGAN_MS}


def test_executions_that_do_not_sum_to_flat_tell_no_result(tmp_path: Path) -> None:
    path = journal(tmp_path, BOUGHT, PAID)
    for executions in ([], [BOUGHT], [fill("e2", LAST_MS, Side.SELL, 99, SOLD_AT, "1")]):
        with pytest.raises(NotBooked, match=r"BTCUSDT (100|1) lots: some are missing"):
            booked_net(path, ["BTCUSDT"], Venue(executions).told, 0, FAR_MS)


FLATTEN_IDS = ("slwf-0-17000009000000001", "slwf-0-17000009000000002")
READ_MS = LAST_MS + 299_000
"""When the account was read that was then flattened."""


def flattened(held: str, *orders: FlattenSent, read_ms: int = READ_MS) -> Flattening:
    return Flattening(read_ms, read_ms + 50, {"BTCUSDT": Decimal(held)}, orders)


def sent(number: int, *, taken: bool = True) -> FlattenSent:
    return FlattenSent("BTCUSDT", FLATTEN_IDS[number], taken)


def sold(number: int, lots: int, name: str = "s") -> Filled:
    at_ns = (READ_MS + 200 + number) * MS
    return Filled(
        at_ns,
        f"{name}{number}",
        FLATTEN_IDS[number],
        "v",
        "BTCUSDT",
        Side.SELL,
        SOLD_AT,
        lots,
        Decimal(1),
        False,
        at_ns,
    )


class Orders:
    """What the venue says that orders of one symbol have filled, base; `asked`: since when and of which, by name."""

    def __init__(self, **filled: str) -> None:
        self.filled = {name.replace("_", "-"): Decimal(qty) for name, qty in filled.items()}
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def told(self, symbol: str, since_ms: int, names: Sequence[str]) -> Mapping[str, Decimal]:
        self.asked.append((since_ms, tuple(names)))
        return self.filled


def net_of(
    path: Path, listed: Sequence[Execution], told: Sequence[Flattening], orders: Orders | None = None
) -> Decimal:
    return booked_net(path, ["BTCUSDT"], Venue(listed).told, 0, FAR_MS, told, (orders or Orders()).told)


UNHEARD = fill("e1", READ_MS - 400, Side.BUY, 4, BOUGHT_AT, "-0.5")
"""The bot's last fill, of which its journal has nothing."""
UNHEARD_NET = 4 * Decimal("0.001") * (SOLD_AT - BOUGHT_AT) + Decimal("0.5") - 1


def test_a_last_fill_and_a_flatten_that_are_both_unlisted_are_not_a_result_of_nought(tmp_path: Path) -> None:
    path, held = journal(tmp_path), [flattened("0.004", sent(0))]
    orders = Orders(slwf_0_17000009000000001="0.004")
    with pytest.raises(NotBooked, match=rf"{FLATTEN_IDS[0]} filled 0\.004, of which 0 is listed"):
        net_of(path, [], held, orders)
    assert orders.asked == [(BEGAN_MS, (FLATTEN_IDS[0],))]
    assert net_of(path, [UNHEARD, sold(0, 4)], held, orders) == UNHEARD_NET


def test_what_was_held_has_to_be_listed_also_where_no_flattening_order_is_known(tmp_path: Path) -> None:
    path, held = journal(tmp_path), [flattened("0.004")]
    with pytest.raises(NotBooked, match=r"0\.004 was held before it was flattened"):
        net_of(path, [], held)
    assert net_of(path, [UNHEARD, sold(0, 4)], held) == UNHEARD_NET


def test_a_flatten_that_is_listed_in_part_is_waited_for_though_the_rest_sums_to_flat(tmp_path: Path) -> None:
    path = journal(tmp_path, BOUGHT)
    more = fill("e3", READ_MS - 300, Side.BUY, 50, BOUGHT_AT, "0")
    orders = Orders(slwf_0_17000009000000001="0.1", slwf_0_17000009000000002="0.05")
    told = [flattened("0.15", sent(0), sent(1))]
    with pytest.raises(NotBooked, match=f"{FLATTEN_IDS[1]} filled"):
        net_of(path, [BOUGHT, sold(0, 100)], told, orders)
    with pytest.raises(NotBooked, match=r"0\.15 was held"):
        net_of(path, [BOUGHT, sold(0, 100)], [flattened("0.15")])
    net = 150 * Decimal("0.001") * (SOLD_AT - BOUGHT_AT) + Decimal("0.5") - 2
    assert net_of(path, [BOUGHT, more, sold(0, 100), sold(1, 50)], told, orders) == net


def test_a_flatten_by_nobody_whose_proof_is_known_is_waited_for_as_well(tmp_path: Path) -> None:
    orders = Orders(slwf_0_17000009000000001="0.004")
    with pytest.raises(NotBooked, match="of which 0 is listed"):
        net_of(journal(tmp_path), [], [], orders)


def test_an_order_that_filled_nothing_is_not_waited_for(tmp_path: Path) -> None:
    told = [flattened("0.004", sent(0), sent(1))]
    orders = Orders(slwf_0_17000009000000001="0", slwf_0_17000009000000002="0.004")
    assert net_of(journal(tmp_path), [UNHEARD, sold(1, 4)], told, orders) == UNHEARD_NET


@pytest.mark.parametrize(("taken", "ago_h", "known"), [(True, 0, False), (False, 0, True), (True, 25, True)])
def test_an_order_that_the_venue_took_has_to_be_shown_as_long_as_it_shows_those_that_filled_nothing(
    tmp_path: Path, taken: bool, ago_h: int, known: bool
) -> None:
    told = [flattened("0", sent(0, taken=taken), read_ms=FAR_MS - ago_h * HOUR_MS - 1000)]
    if known:
        assert net_of(journal(tmp_path, BOUGHT), [BOUGHT, SOLD], told)
        return
    with pytest.raises(NotBooked, match=f"{FLATTEN_IDS[0]} was taken by the venue, which does not show it"):
        net_of(journal(tmp_path, BOUGHT), [BOUGHT, SOLD], told)


def test_several_flattenings_and_a_fill_between_them_are_a_result(tmp_path: Path) -> None:
    late = fill("e4", READ_MS + 20_000, Side.BUY, 2, BOUGHT_AT, "0")
    again = Filled(
        *((READ_MS + 21_000) * MS, "s9", FLATTEN_IDS[1], "v", "BTCUSDT", Side.SELL, SOLD_AT, 2, Decimal(0), False),
        (READ_MS + 21_000) * MS,
    )
    told = [flattened("0.004", sent(0)), flattened("0.002", sent(1), read_ms=READ_MS + 20_500)]
    orders = Orders(slwf_0_17000009000000001="0.004", slwf_0_17000009000000002="0.002")
    path = journal(tmp_path)
    found = net_of(path, [UNHEARD, sold(0, 4), late, again], told, orders)
    assert found == UNHEARD_NET + 2 * Decimal("0.001") * (SOLD_AT - BOUGHT_AT)
    with pytest.raises(NotBooked):
        net_of(path, [UNHEARD, sold(0, 4)], told, orders)
    with pytest.raises(NotBooked, match=r"0\.002 was held"):
        net_of(path, [UNHEARD, sold(0, 4)], [flattened("0.004"), flattened("0.002", read_ms=READ_MS + 20_500)])


def test_what_was_held_and_closed_by_the_bots_own_order_meanwhile_is_a_result(tmp_path: Path) -> None:
    closed = fill("e5", READ_MS + 900, Side.SELL, 4, SOLD_AT, "1")
    assert net_of(journal(tmp_path), [UNHEARD, closed], [flattened("0.004")]) == UNHEARD_NET


def test_a_position_of_the_same_size_long_before_is_not_the_one_that_was_held(tmp_path: Path) -> None:
    early = [
        fill("e5", READ_MS - 60_000, Side.BUY, 4, BOUGHT_AT, "0"),
        fill("e6", READ_MS - 50_000, Side.SELL, 4, BOUGHT_AT, "0"),
    ]
    with pytest.raises(NotBooked, match=r"0\.004 was held"):
        net_of(journal(tmp_path, *early), early, [flattened("0.004")])


def test_lots_of_another_size_are_not_added_up(tmp_path: Path) -> None:
    coarser = Instrument(**{**{n: getattr(BTC, n) for n in BTC.__struct_fields__}, "lot_size": Decimal("0.01")})
    venue = Venue([BOUGHT, SOLD], {"BTCUSDT": coarser})
    with pytest.raises(NotBooked, match="another lot size"):
        booked_net(journal(tmp_path, BOUGHT), ["BTCUSDT"], venue.told, 0, FAR_MS)


def test_what_is_left_beside_a_journal_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    assert read_booked(tmp_path) is None
    for booked in (Booked(5, Decimal("-306.0950000001")), Booked(6, None, "the venue was away")):
        write_booked(tmp_path, booked)
        assert read_booked(tmp_path) == booked
    (tmp_path / "booked.json").write_text('{"at_ns": 5, "net_quote": "NaN", "why": ""}')
    found = read_booked(tmp_path)
    assert found is not None
    assert (found.net_quote, "not a result" in found.why) == (None, True)


@pytest.mark.parametrize("torn", ["", '{"at_ns": 5, "net_qu', "[]"])
def test_a_torn_result_is_not_known_as_of_when_it_was_written(tmp_path: Path, torn: str) -> None:
    (tmp_path / "booked.json").write_text(torn)
    os.utime(tmp_path / "booked.json", ns=(7, 1_700_000_000 * 1_000_000_000))
    found = read_booked(tmp_path)
    assert found is not None
    assert (found.at_ns, found.net_quote) == (1_700_000_000 * 1_000_000_000, None)


def test_what_is_left_beside_a_journal_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(number: int) -> None:
        done.append(f"{Path(f'/proc/self/fd/{number}').readlink().name} synced")
        fsync(number)

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"{path.name} renamed")
        return replace(path, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_booked(tmp_path, Booked(5, Decimal(1)))
    assert done == ["booked.new synced", "booked.new renamed", f"{tmp_path.name} synced"]
