"""Who may sign and when enough have: the schema of `configs/approvers*.yaml` and the quorum. Pure but for `load`.

One person counts once, whatever their roles; the author of the candidate signs nothing; a person's latest decision is
theirs. Identity (one-time codes) is not judged here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gates.yaml_file import YamlFile

Role = Literal["Quant Lead", "SRE Lead", "Risk Manager"]


class ApproversError(Exception):
    """An approvers file that cannot be used. The message is one line for a person."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class SignOffs(_Part):
    """What a gate asks for: each of `roles` by a person of their own, and `distinct_people` people in all."""

    roles: tuple[Role, ...] = ()
    distinct_people: Annotated[int, Field(ge=0, le=10)] = 0

    @model_validator(mode="after")
    def _each_role_once(self) -> Self:
        if len(set(self.roles)) != len(self.roles):
            raise ValueError(f"roles {', '.join(self.roles)}; allowed: each once")
        return self

    @property
    def people_count(self) -> int:
        """How many different people must sign."""
        return max(self.distinct_people, len(self.roles))


class Person(_Part):
    """Somebody who may sign, by the name they sign with."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{1,40}$")]
    full_name: str = ""
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]


class Approvers(_Part):
    """The whole file. `demo: true` marks made-up people, who are refused on anything but the simulated venue."""

    schema_version: Literal[1]
    demo: bool = False
    people: Annotated[tuple[Person, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        names = [person.name for person in self.people]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"people {', '.join(twice)} stand twice; allowed: each name once")
        return self


class Signature(NamedTuple):
    """One accepted decision of a person at one gate."""

    person: str
    decision: Literal["GO", "NO-GO"]


class Quorum(NamedTuple):
    """`counted`: people whose GO counts; `missing`: in words, what is still wanted (empty when complete)."""

    complete: bool
    counted: tuple[str, ...]
    missing: tuple[str, ...]


def load_approvers(path: Path) -> Approvers:
    """The people in `path`. Raises ApproversError with one line: file, line, the thing, its value, what is allowed."""
    return YamlFile(path, ApproversError).read(Approvers)


def refuse_made_up_people(approvers: Approvers, venue: str) -> None:
    """Demo approvers do not exist, so their signatures are worth nothing where money is. Raises ApproversError."""
    if approvers.demo and venue != "simulated":
        raise ApproversError(f"approvers: demo people at venue {venue}; allowed: real people, or venue simulated")


def signed_off(
    required: SignOffs, people: Sequence[Person], signatures: Iterable[Signature], author: str | None = None
) -> Quorum:
    """Whether enough of the right people said GO. Signatures in the order they came; a person's last one holds.

    Unknown people and the author count for nothing. A NO-GO does not count as anybody's GO; that it ends the stage is
    decided elsewhere.
    """
    last = {signature.person: signature.decision for signature in signatures}
    signers = [p for p in people if last.get(p.name) == "GO" and p.name != author]
    by_role = _assign(required.roles, signers)
    missing: list[str] = [role for role in required.roles if role not in by_role]
    more = max(0, required.people_count - len(signers)) - len(missing)
    if more > 0:
        missing.append(f"{more} more {'person' if more == 1 else 'people'}")
    return Quorum(not missing, tuple(person.name for person in signers), tuple(missing))


def asked_of(required: SignOffs, people: Sequence[Person], author: str | None = None) -> list[str]:
    """Whom a gate asks: everybody whose GO could help, by name; nobody where nobody has to sign."""
    if not required.people_count:
        return []
    people = [one for one in people if one.name != author]
    if required.people_count <= len(required.roles):  # nobody without one of the roles could help
        people = [one for one in people if set(one.roles) & set(required.roles)]
    return [one.name for one in people]


def can_ever_sign_off(required: SignOffs, people: Sequence[Person], author: str | None = None) -> Quorum:
    """The quorum if everybody who may sign said GO: what is missing then can never come."""
    return signed_off(required, people, [Signature(person.name, "GO") for person in people], author)


def _assign(roles: Sequence[Role], signers: Sequence[Person]) -> dict[Role, str]:
    """As many roles as possible, each to a person of their own (augmenting paths; the sets are tiny)."""
    holder: dict[Role, str] = {}

    def place(person: Person, tried: set[Role]) -> bool:
        for role in roles:
            if role in person.roles and role not in tried:
                tried.add(role)
                before = holder.get(role)
                if before is None or place(next(p for p in signers if p.name == before), tried):
                    holder[role] = person.name
                    return True
        return False

    for person in signers:
        place(person, set())
    return holder
