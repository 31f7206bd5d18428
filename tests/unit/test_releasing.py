"""Two people release what people may release, and nobody releases it alone."""

from __future__ import annotations

from typing import Any

import pytest

from bot.domain import events as ev
from bot.domain import intent as it
from bot.engine.engine import Engine
from bot.engine.releasing import RELEASES_KEPT
from tests.support.engine_driver import SYMBOL, Driver, S


def stopped(reason: str) -> Driver:
    driver = Driver().start()
    driver.tell(ev.StopRequested(driver.now, reason, "planned", "people", "ops"))
    driver.wait(S)
    return driver


def ask(driver: Driver, kind: str, reason: str = "*", who: str = "ada", **changes: Any) -> None:
    values: dict[str, Any] = {"release_id": "r1", "consent": kind == "re-arm", **changes}
    driver.tell(ev.ReleaseAsked(driver.now, values["release_id"], kind, reason, who, "looked at it", values["consent"]))


def confirm(driver: Driver, who: str = "grace", release_id: str = "r1", *, consent: bool = True) -> list[it.Intent]:
    return driver.tell(ev.ReleaseConfirmed(driver.now, release_id, who, "so did I", consent))


def answer(driver: Driver) -> tuple[str, str]:
    found = driver.engine.state.releases["r1"]
    return found.word, found.refusal


def test_a_held_bot_quotes_again_once_a_second_person_has_confirmed() -> None:
    driver = stopped("operator_hold")
    ask(driver, "resume")
    assert driver.engine.view == "HELD"
    confirm(driver)
    driver.wait(S)
    assert driver.engine.view == "RUNNING"
    assert answer(driver) == ("released", "")
    assert driver.engine.state.releases["r1"].released == ("operator_hold",)
    told = [note.fields for note in driver.notes("stop_changed") if "released" in note.fields]
    assert told == [{"released": "operator_hold", "who": "ada,grace", "why": "looked at it; so did I"}]


def test_a_halted_bot_is_re_armed_by_two_people_who_both_consent() -> None:
    driver = stopped("kill_switch")
    ask(driver, "re-arm", "kill_switch")
    confirm(driver)
    driver.wait(S)
    assert driver.engine.view == "RUNNING"


@pytest.mark.parametrize("who", ["ada", " Ada "])
def test_the_person_who_asked_never_confirms_and_somebody_else_still_may(who: str) -> None:
    driver = stopped("operator_hold")
    ask(driver, "resume")
    confirm(driver, who)
    assert answer(driver) == ("pending", "same_person: ada asked for it; another person has to confirm")
    assert driver.engine.view == "HELD"
    confirm(driver, "grace")
    assert answer(driver)[0] == "released"


def test_a_request_that_is_too_old_is_refused_and_stays_so() -> None:
    driver = stopped("operator_hold")
    ask(driver, "resume")
    driver.wait(300 * S + 1)
    confirm(driver)
    assert answer(driver) == ("refused", "expired: asked 300 s ago, confirmed within 300 s or not at all")
    assert driver.engine.view == "HELD"


def test_a_used_request_releases_nothing_a_second_time() -> None:
    driver = stopped("operator_hold")
    ask(driver, "resume")
    confirm(driver)
    driver.tell(ev.StopRequested(driver.now, "operator_hold", "planned", "people", "ops"))
    driver.wait(S)
    confirm(driver)
    assert driver.engine.view == "HELD"


def test_re_arming_needs_the_consent_of_both() -> None:
    driver = stopped("kill_switch")
    ask(driver, "re-arm", consent=False)
    assert answer(driver) == ("refused", "consent: re-arm needs the consent of both people and an armed process")
    ask(driver, "re-arm", release_id="r2")
    confirm(driver, release_id="r2", consent=False)
    assert driver.engine.state.releases["r2"].word == "pending"
    assert driver.engine.state.releases["r2"].refusal.startswith("consent: ")
    assert driver.engine.view == "HALTED"
    confirm(driver, release_id="r2")
    assert driver.engine.state.releases["r2"].word == "released"


@pytest.mark.parametrize(
    ("stop", "kind", "reason"),
    [
        ("operator_hold", "re-arm", "*"),
        ("kill_switch", "resume", "*"),
        ("kill_switch", "resume", "kill_switch"),
        ("operator_hold", "resume", "taker_fill"),
    ],
)
def test_what_does_not_hold_or_needs_the_other_kind_is_refused_when_it_is_asked(
    stop: str, kind: str, reason: str
) -> None:
    driver = stopped(stop)
    ask(driver, kind, reason)
    word, refusal = answer(driver)
    assert word == "refused"
    assert refusal == f"nothing: no stop that {kind} releases holds under {reason!r}; holding: {stop}"
    confirm(driver)
    assert driver.engine.stop is not None


def test_what_is_not_proven_to_be_cancelled_is_not_released_yet() -> None:
    driver = Driver().start()
    driver.silent = {it.ReadAccount}
    driver.tell(ev.StopRequested(driver.now, "operator_hold", "planned", "people", "ops"))
    ask(driver, "resume")
    confirm(driver)
    assert answer(driver) == ("pending", "not_proven: the cancel-all of this stop is not proven yet")
    driver.silent = set()
    driver.wait(5 * S)
    confirm(driver)
    assert answer(driver) == ("released", "")


def test_a_stop_that_came_after_the_request_is_not_released_by_it() -> None:
    driver = stopped("operator_hold")
    ask(driver, "resume")
    driver.wait(S)
    driver.tell(ev.StopRequested(driver.now, "taker_fill", "fault", "people", "ops"))
    driver.wait(S)
    confirm(driver)
    assert [stop.reason for stop in driver.engine.stops] == ["taker_fill"]


def test_an_unknown_request_and_one_of_an_earlier_process_release_nothing() -> None:
    driver = stopped("operator_hold")
    confirm(driver, release_id="never")
    ask(driver, "resume")
    driver.tell(ev.Started(driver.now, "run", "live", "digest", "0.1.0", (SYMBOL,)))
    driver.wait(S)
    confirm(driver)
    assert "operator_hold" in [stop.reason for stop in driver.engine.stops]
    refused = [note.fields["refused"] for note in driver.notes("stop_changed") if "refused" in note.fields]
    assert refused == ["never", "r1"]


def test_the_same_events_give_the_same_intents() -> None:
    driver = Driver()
    told: list[tuple[ev.Event, list[it.Intent]]] = []
    receive = driver.engine.receive
    driver.engine.receive = lambda event: told.append((event, list(receive(event)))) or told[-1][1]  # type: ignore[method-assign,func-returns-value]
    driver.start()
    driver.tell(ev.StopRequested(driver.now, "operator_hold", "planned", "people", "ops"))
    driver.wait(S)
    ask(driver, "resume")
    confirm(driver, "ada")
    confirm(driver)
    again = Engine(driver.parameters)
    assert [again.receive(event) for event, _ in told] == [intents for _, intents in told]


@pytest.mark.parametrize("used", [True, False], ids=["used", "too old"])
def test_a_request_that_was_confirmed_is_never_asked_anew_however_many_came_since(used: bool) -> None:
    """What the guard said of its second person holds for its id, and is still known to whoever has heard it."""
    driver = stopped("operator_hold")
    ask(driver, "resume")
    driver.wait(0 if used else 300 * S + 1)
    confirm(driver)
    driver.tell(ev.StopRequested(driver.now, "operator_hold", "planned", "people", "ops"))
    driver.wait(S)
    for number in range(RELEASES_KEPT + 2):
        ask(driver, "resume", release_id=f"other-{number}")
    ask(driver, "resume")
    confirm(driver)
    driver.wait(S)
    assert driver.engine.view == "HELD"


def test_a_request_that_was_confirmed_before_it_was_asked_is_never_asked() -> None:
    driver = stopped("operator_hold")
    confirm(driver)
    ask(driver, "resume")
    confirm(driver)
    assert driver.engine.view == "HELD"
