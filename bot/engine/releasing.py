"""Two people release a stop: one asks, another one confirms, and the engine alone decides whether that is enough.

    asked → pending → released
              │  └──── refused (expired, or nothing is left that it could release)
              └─ a confirmation that does not count (same person, no consent, not proven yet) changes nothing

`resume` releases what people may release, `re-arm` what HALTED. A request covers the stops that held when it was asked:
what came after it needs one of its own. Re-arming needs the consent of both people besides. A request ends with the
process that took it: nobody confirms after a restart what somebody saw before it, and its id is never asked anew, in
no later process on that journal either.
"""

from __future__ import annotations

from typing import Final

from bot.domain import events as ev
from bot.engine.parameters import NS_PER_S
from bot.engine.reconciliation import Reconciliation
from bot.engine.state import Release, State
from bot.engine.stop import Holding, Stop, View
from bot.engine.stopping import Stopping

RELEASES_KEPT: Final = 64
"""Requests nobody has confirmed that are remembered, so that a late confirmation is told why it is refused. All others
are as long as the process lives: asked anew under its id, one would be confirmed by what was said of it before."""

UNKNOWN: Final = "unknown: no such request"
OVER: Final = "over: an earlier process of this bot took that request; ask anew"
CONSENT: Final = "consent: re-arm needs the consent of both people and an armed process"


class Releasing:
    """Of one engine. What came of a request is in `state.releases`."""

    def __init__(self, state: State, stopping: Stopping, reconciliation: Reconciliation) -> None:
        self._state = state
        self._stopping = stopping
        self._reconciliation = reconciliation

    def ask(self, event: ev.ReleaseAsked) -> None:
        """Take a request of a first person. An id that is known already changes nothing."""
        state = self._state
        if event.release_id in state.releases:
            return
        release = self._keep(event)
        rearming = event.kind == "re-arm"
        release.covers = tuple(
            held.stop.reason
            for held in state.stops.all
            if event.reason in ("*", held.stop.reason) and _is_releasable(held, rearming=rearming)
        )
        if not event.who.strip():
            self._refuse(event.release_id, release, "nobody: a request needs the name of a person", final=True)
        elif rearming and not event.consent:
            self._refuse(event.release_id, release, CONSENT, final=True)
        elif not release.covers:
            self._refuse(event.release_id, release, self._nothing(release), final=True)
        else:
            state.note("WARNING", "release_asked", release_id=event.release_id, kind=event.kind, who=release.asked_by,
                       why=event.why, covers=",".join(release.covers))  # fmt: skip

    def confirm(self, event: ev.ReleaseConfirmed) -> None:
        """A second person's word on a request: release what it covers, or say why not."""
        state = self._state
        release = state.releases.get(event.release_id)
        if release is None:
            release = state.releases[event.release_id] = Release("", "", "", "", state.now_ns, word="refused")
            release.refusal = UNKNOWN
        release.confirmed = True
        if release.word != "pending":
            why = release.refusal or "used: it has released what it covers"
            state.note("WARNING", "stop_changed", refused=event.release_id, who=event.who, why=why)
            return
        refusal, final = self._against(release, event)
        if refusal:
            self._refuse(event.release_id, release, refusal, final=final, who=event.who)
            return
        self._carry_out(event, release)

    def restore(self, event: ev.ReleaseAsked | ev.ReleaseConfirmed) -> None:
        """What an earlier process was told; `end_all` comes after it."""
        known = self._state.releases.get(event.release_id)
        if isinstance(event, ev.ReleaseAsked):
            if known is None:
                self._keep(event)
            return
        if known is None:
            known = self._state.releases[event.release_id] = Release("", "", "", "", self._state.now_ns)
        known.confirmed = True

    def end_all(self) -> None:
        """A new process: nothing that was asked before it can be confirmed, or asked anew under its id."""
        for release in self._state.releases.values():
            release.word, release.refusal = "refused", OVER

    def _keep(self, event: ev.ReleaseAsked) -> Release:
        """A new request, and room for it."""
        releases = self._state.releases
        release = releases[event.release_id] = Release(
            event.kind, event.reason, event.who.strip(), event.why, self._state.now_ns
        )
        unconfirmed = [number for number, one in releases.items() if not one.confirmed]
        for number in unconfirmed[:-RELEASES_KEPT]:
            del releases[number]
        return release

    def _against(self, release: Release, event: ev.ReleaseConfirmed) -> tuple[str, bool]:
        """(what speaks against it, whether for good); empty where nothing does."""
        state, who = self._state, event.who.strip()
        allowed_s = state.parameters.release_expires_s
        age_ns = state.now_ns - release.asked_ns
        if age_ns > allowed_s * NS_PER_S:
            return f"expired: asked {age_ns // NS_PER_S} s ago, confirmed within {allowed_s} s or not at all", True
        if not who or who.casefold() == release.asked_by.casefold():
            return f"same_person: {release.asked_by} asked for it; another person has to confirm", False
        if release.kind == "re-arm" and not event.consent:
            return CONSENT, False
        if not self._stopping.proven:
            return "not_proven: the cancel-all of this stop is not proven yet", False
        return "", False

    def _carry_out(self, event: ev.ReleaseConfirmed, release: Release) -> None:
        state, before = self._state, self._state.view
        who, why = f"{release.asked_by},{event.who.strip()}", f"{release.why}; {event.why}"
        released: list[Stop] = []
        for held in state.stops.all:
            if held.stop.reason not in release.covers or held.since_ns > release.asked_ns:
                continue
            if release.kind == "re-arm":
                released += state.stops.rearm(held.stop.reason, (release.asked_by, event.who.strip()))
            else:
                released += state.stops.release_by_people(held.stop.reason)
        if not released:
            self._refuse(event.release_id, release, self._nothing(release), final=True, who=event.who)
            return
        release.word, release.refusal = "released", ""
        release.released = tuple(stop.reason for stop in released)
        for stop in released:
            state.note("WARNING", "stop_changed", released=stop.reason, who=who, why=why)
            if stop.reason in ("recon_divergence", "position_drift"):
                self._reconciliation.adopt_venue_positions()
        self._stopping.note_view(before)

    def _refuse(self, release_id: str, release: Release, why: str, *, final: bool, who: str = "") -> None:
        release.refusal = why
        if final:
            release.word = "refused"
        self._state.note("WARNING", "stop_changed", refused=release_id, who=who or release.asked_by, why=why)

    def _nothing(self, release: Release) -> str:
        holding = ", ".join(held.stop.reason for held in self._state.stops.all) or "none"
        return f"nothing: no stop that {release.kind} releases holds under {release.reason!r}; holding: {holding}"


def _is_releasable(held: Holding, *, rearming: bool) -> bool:
    """Whether that kind of request could ever release it. SHUTDOWN is never released."""
    if rearming:
        return held.stop.view is View.HALTED
    return held.stop.resume != "re-arm"
