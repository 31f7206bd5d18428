"""The configuration: what is refused and how it is said, where values come from, and what the digest covers."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from bot.assembly import engine_parameters
from bot.check_config import report
from bot.config import BotConfig, load_settings, settings_digest
from bot.engine.parameters import EngineParameters
from bot.resolution import read_environment, resolve
from bot.settings_file import ConfigError

DEMO = Path(__file__).resolve().parents[2] / "configs" / "bot" / "demo.yaml"


def settings_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "candidate.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strategy: {half_sprad_bps: 3}", "strategy.half_sprad_bps: unknown key (did you mean half_spread_bps?)"),
        ("stratgy: {}", "stratgy: unknown key (did you mean strategy?)"),
        ("strategy: {half_spread_bps: -3}", "strategy.half_spread_bps: -3 is not allowed"),
        ("strategy: {half_spread_bps: -3}", "allowed: > 0 and < 10000"),
        ("strategy: {half_spread_bps: .inf}", "finite number"),
        ("strategy: {order_notional_quote: .nan}", "finite number"),
        ("risk: {orders_per_min_max: 0}", "allowed: >= 1 and <= 10000"),
        ("risk: {cancel_budget_reserve: 70}", "cancel_budget_reserve 70 must be below cancel_budget_per_min 50"),
        ("strategy: 3", "strategy: 3 is not allowed"),
        ("- 3", "holds a list"),
        ("strategy: {}\nstrategy: {}", ":2: key 'strategy' is given twice"),
        ("strategy: {", ":1:"),
        ("execution: {inventory_max_quote: 5}", "execution: unknown key"),
        ("risk: {statement_max_age_s: 0}", "allowed: > 0 and <= 86400"),
        ("venue: {disconnect_cancel_s: 5}", "disconnect_cancel_s 5 must be longer than receive_window_ms 5000"),
        ("fees: {profile: VIP9}", "fees.profile: 'VIP9' is not allowed"),
    ],
)
def test_a_wrong_settings_file_is_refused_in_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    path = settings_of(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert said in message
    assert "\n" not in message


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file"):
        load_settings(tmp_path / "none.yaml")


def test_decimals_of_a_settings_file_never_pass_through_a_float(tmp_path: Path) -> None:
    text = "strategy: {half_spread_bps: 0.100001, order_notional_quote: 123456.78901234567}"
    settings = load_settings(settings_of(tmp_path, text))
    assert settings.strategy.half_spread_bps == Decimal("0.100001")
    assert settings.strategy.order_notional_quote == Decimal("123456.78901234567")


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    path = settings_of(tmp_path, "risk: {orders_per_min_max: 111, cancels_per_min_max: 112}")
    environment = {"MAX_ORDERS_PER_MIN": "122", "MAX_TOTAL_NOTIONAL_USDT": "20000"}
    resolved = resolve({"settings": str(path), "max_total": "30000"}, environment)
    assert resolved.config.risk.orders_per_min_max == 122
    assert resolved.config.risk.cancels_per_min_max == 112
    assert resolved.config.execution.total_max_quote == 30000
    assert resolved.provenance["risk.orders_per_min_max"] == "environment MAX_ORDERS_PER_MIN"
    assert resolved.provenance["risk.cancels_per_min_max"] == f"settings {path}"
    assert resolved.provenance["execution.total_max_quote"] == "flag --max-total"
    assert resolved.config.risk.max_total_notional_quote == 20000
    assert resolved.provenance["risk.max_open_orders"] == "default"
    assert resolved.provenance["safety.safe_mode"] == "profile paper (default)"


def test_a_wrong_flag_is_named_with_its_value_and_the_allowed_range() -> None:
    with pytest.raises(ConfigError, match=r"flag --max-inv: .*'-3' is not allowed.*allowed: > 0"):
        resolve({"max_inv": "-3"}, {})


def test_symbol_filter_overrides_symbols() -> None:
    resolved = resolve({"symbols": "BTCUSDT,ETHUSDT", "symbol_filter": "ETHUSDT"}, {})
    assert resolved.config.execution.symbols == ("ETHUSDT",)


def test_nothing_goes_above_a_kill_cap() -> None:
    live = {"network": True, "live": True}
    armed = {"MM_LIVE_ENABLE": "1"}
    with pytest.raises(ConfigError, match=r"total_max_quote 60000 is above kill_caps\.total_max_quote 50000"):
        resolve({**live, "max_total": "60000"}, armed)
    with pytest.raises(ConfigError, match="orders_per_min_max 601 is above kill_caps"):
        resolve(live, {**armed, "MAX_ORDERS_PER_MIN": "601"})


def test_a_fee_profile_gives_the_numbers_and_a_flag_beats_them(tmp_path: Path) -> None:
    path = settings_of(tmp_path, "fees: {profile: VIP2}")
    resolved = resolve({"settings": str(path), "fee_maker_bps": "0.9"}, {})
    fees = resolved.config.fees
    assert (fees.fee_maker_bps, fees.fee_taker_bps, fees.rebate_maker_bps) == (
        Decimal("0.9"),
        Decimal("5.0"),
        Decimal("2.5"),
    )


def test_the_digest_ignores_what_a_stage_decides_and_sees_what_makes_the_candidate(tmp_path: Path) -> None:
    alone = settings_digest(load_settings(DEMO))
    staged = resolve({"settings": str(DEMO), "max_inv": "500", "max_total": "2000", "edge_threshold": "5"}, {})
    assert staged.digest == alone
    digests = [
        settings_digest(load_settings(settings_of(tmp_path, f"strategy: {{half_spread_bps: {value}}}")))
        for value in ("6", "6.00", "6.01")
    ]
    assert digests[0] == digests[1] != digests[2]
    venue = "strategy: {half_spread_bps: 6}\nvenue: {receive_window_ms: 1234}\njournal: {market_data: true}"
    assert settings_digest(load_settings(settings_of(tmp_path, venue))) == digests[0]


def test_defaults_of_the_configuration_are_the_engines_defaults() -> None:
    mapped = engine_parameters(BotConfig(), "shadow")
    assert mapped == EngineParameters(symbols=("BTCUSDT",), mode="shadow", requires_grant=False)


def test_every_engine_parameter_can_be_configured() -> None:
    config = BotConfig()
    sections = (
        config.strategy, config.risk, config.stop, config.fees, config.venue, config.execution, config.safety
    )  # fmt: skip
    named = {key for section in sections for key in type(section).model_fields}
    named |= {f"kill_{key}" for key in type(config.kill_caps).model_fields}
    elsewhere = {"mode", "requires_grant", "strategy", "position_max_quote"}  # strategy.name; risk.per_symbol
    assert set(EngineParameters.__struct_fields__) - named == elsewhere


def test_a_networked_run_needs_a_grant() -> None:
    assert engine_parameters(BotConfig(), "testnet").requires_grant is True
    assert engine_parameters(BotConfig(), "live").requires_grant is True


def test_check_config_shows_value_source_and_digest() -> None:
    text = report(resolve({"settings": str(DEMO), "max_inv": "500"}, {}))
    line = next(line for line in text.splitlines() if line.startswith("execution.inventory_max_quote"))
    assert line.split()[1:] == ["500", "flag", "--max-inv"]
    assert text.splitlines()[-1] == f"digest {settings_digest(load_settings(DEMO))}"


def test_the_process_environment_beats_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# notes\nexport SAFE_MODE='true'\nPROFILE=paper\n", encoding="utf-8")
    environment = read_environment(tmp_path, {"PROFILE": "live"})
    assert environment == {"SAFE_MODE": "true", "PROFILE": "live"}


def test_a_wrong_line_of_the_env_file_is_named_but_not_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nverysecret\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"\.env:2: not NAME=VALUE") as caught:
        read_environment(tmp_path, {})
    assert "verysecret" not in str(caught.value)


def test_limits_of_one_symbol_come_from_the_environment_on_top_of_the_file(tmp_path: Path) -> None:
    path = settings_of(tmp_path, "risk: {per_symbol: {BTCUSDT: {max_open_orders: 3}, '*': {position_max_quote: 900}}}")
    environment = {"MAX_POSITION_USDT__BTCUSDT": "700", "MAX_OPEN_ORDERS__ETHUSDT": "2", "MAX_OPEN_POSITIONS": "4"}
    resolved = resolve({"settings": str(path), "symbols": "BTCUSDT,ETHUSDT,SOLUSDT"}, environment)
    own = engine_parameters(resolved.config, "shadow")
    found = [(own.of(name).position_max_quote, own.of(name).max_open_orders) for name in own.symbols]
    assert found == [(Decimal(700), 3), (Decimal(900), 2), (Decimal(900), 4)]
    assert own.max_open_positions == 4
    with pytest.raises(ConfigError, match=r"environment MAX_OPEN_ORDERS__ETHUSDT|resolved configuration"):
        resolve({}, {"MAX_OPEN_ORDERS__ETHUSDT": "0"})


def test_a_symbol_has_its_own_strategy_and_fee_profile_and_a_flag_beats_every_profile(tmp_path: Path) -> None:
    text = (
        "strategy: {name: avellaneda_stoikov, per_symbol: {ETHUSDT: {name: spread_and_skew, half_spread_bps: 8}}}\n"
        "fees: {per_symbol: {ETHUSDT: VIP3, '*': MM_TIER_A}}"
    )
    flags = {"settings": str(settings_of(tmp_path, text)), "symbols": "BTCUSDT,ETHUSDT"}
    own = engine_parameters(resolve(flags, {}).config, "shadow")
    btc, eth = own.of("BTCUSDT"), own.of("ETHUSDT")
    assert (btc.strategy, eth.strategy, eth.half_spread_bps) == ("avellaneda_stoikov", "spread_and_skew", 8)
    assert (btc.rebate_maker_bps, eth.fee_maker_bps) == (Decimal("5.0"), Decimal("0.2"))
    own = engine_parameters(resolve({**flags, "fee_maker_bps": "1.5"}, {}).config, "shadow")
    assert own.of("ETHUSDT").fee_maker_bps == Decimal("1.5")


def test_kill_caps_reach_the_engine() -> None:
    resolved = resolve({"network": True, "live": True}, {"MM_LIVE_ENABLE": "1"})
    own = engine_parameters(resolved.config, "live")
    caps = (own.kill_total_max_quote, own.kill_orders_per_min_max, own.kill_loss_max_quote)
    assert caps == (50_000, 600, 1_500)


def test_an_empty_flag_is_refused_and_an_empty_variable_is_none() -> None:
    with pytest.raises(ConfigError, match=r"flag --symbols: execution.symbols.0: '' is not allowed"):
        resolve({"symbols": ""}, {})
    with pytest.raises(ConfigError, match=r"flag --max-inv: execution.inventory_max_quote: '' is not allowed"):
        resolve({"max_inv": ""}, {})
    assert resolve({}, {"MAX_TOTAL_NOTIONAL_USDT": ""}).config == resolve({}, {}).config


def test_check_config_shows_what_a_symbol_has_otherwise_in_words() -> None:
    shown = report(resolve({}, {"MAX_POSITION_USDT__BTCUSDT": "300", "MAX_OPEN_ORDERS__BTCUSDT": "2"}))
    (line,) = [line for line in shown.splitlines() if line.startswith("risk.per_symbol")]
    assert "BTCUSDT: position_max_quote 300, max_open_orders 2" in line
