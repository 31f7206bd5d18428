"""The tutorial's own strategy is what it says: its code runs as printed, and plugs in where the page says."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from bot.domain.instrument import Instrument
from bot.engine.parameters import EngineParameters
from bot.engine.quoting import Strategy
from tasks.state_folder import REPOSITORY
from tests.support.engine_driver import parameters

PAGE = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
D = Decimal
INSTRUMENT = Instrument("BTCUSDT", "linear", "BTC", "USDT", D("0.1"), D("0.001"), D("0.001"), D(100), D(5))
MID2 = 1_000_000


def strategy() -> Callable[[EngineParameters, Instrument], Strategy]:
    """The class that the page prints."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    space: dict[str, object] = {}
    exec(compile(source, "docs/tutorial.md", "exec"), space)  # noqa: S102 - the page's own code is what is tested
    made = space["SquaredSkew"]
    assert callable(made)
    return made  # type: ignore[no-any-return]


def test_it_leans_by_the_square_of_what_is_held() -> None:
    numbers = {
        "half_spread_bps": D(6),
        "inventory_skew_bps": D(4),
        "inventory_max_quote": D(10_000),
        "total_max_quote": D(50_000),
    }
    one = strategy()(parameters(**numbers, order_notional_quote=D(900)), INSTRUMENT)
    assert one.prices(MID2, 0, 0) == (499_700, 500_300, 18)
    # 100 lots at 50,000 are half of the limit: a quarter of 4 bps; 200 are all of it; more leans no further
    assert one.prices(MID2, 100, 0)[:2] == (499_650, 500_250)
    assert one.prices(MID2, -100, 0)[:2] == (499_750, 500_350)
    assert one.prices(MID2, 200, 0) == one.prices(MID2, 900, 0) == (499_500, 500_100, 18)


def test_the_places_where_it_plugs_in_are_where_the_page_says() -> None:
    for path, words in (
        ("bot/domain/strategy_name.py", "StrategyName = Literal["),
        ("bot/engine/strategies.py", '    "spread_and_skew": SpreadAndSkew,'),
        ("bot/engine/quoting.py", "def around("),
        ("configs/bot/demo.yaml", "\nstrategy:\n"),
        ("configs/bot/demo.yaml", "  inventory_skew_bps: 13\n"),
        ("configs/rollout.smoke.yaml", "\nname: smoke\n"),
        ("configs/rollout.smoke.yaml", "\nauthor: "),
        ("configs/rollout.smoke.yaml", "configs/bot/demo.yaml"),
    ):
        assert path in PAGE
        assert words in (REPOSITORY / path).read_text(encoding="utf-8")


def test_what_the_page_quotes_of_a_demos_end_is_what_it_prints() -> None:
    printed = (REPOSITORY / "flows" / "demo_view.py").read_text(encoding="utf-8")
    (quoted,) = re.findall(r"Under `([^`]+)`\s+are the\s+proofs", PAGE)
    assert f'"{" ".join(quoted.split())}:"' in printed
