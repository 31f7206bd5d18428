"""Writes what people have said with a one-time code: sign-offs, attestations, and words on the release of a stop."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel, col, select

from tasks.record_links import ChainWriter, told_columns
from tasks.record_tables import Attested, Released, SignOff, UsedCode, utc_now

KINDS: dict[type[SQLModel], str] = {SignOff: "sign_off", Attested: "attestation", Released: "release"}
"""What the chain calls a link of each."""
TIME_STEP = "time_step"
"""In the link of an accepted sign-off or attestation: which code was spent on it, as its 30 s step since 1970."""


class _CodeServed(Exception):
    """This code of this person is spent."""


class SaidWriter(ChainWriter):
    """The words of people of one account, accepted or refused. A code serves once, for whatever it is given."""

    def sign(self, row: SignOff, time_step: int) -> bool:
        """Spends the code and stores the accepted sign-off, both or neither. False where the code has served before."""
        return self._spend(row, time_step)

    def attest(self, row: Attested, time_step: int) -> bool:
        """The same for an accepted attestation: a code serves once, for whatever it is given."""
        return self._spend(row, time_step)

    def release(self, row: Released, time_step: int) -> bool:
        """The same for an accepted word on the release of a stop."""
        return self._spend(row, time_step)

    def _spend(self, row: SignOff | Attested | Released, time_step: int) -> bool:
        try:
            with self.writing() as session:
                session.add(UsedCode(person=row.person, time_step=time_step))
                try:
                    session.flush()
                except IntegrityError as error:
                    raise _CodeServed from error
                self._add(session, row, time_step)
            return True
        except _CodeServed:
            return False

    def use_code(self, person: str, time_step: int) -> bool:
        """True where this code of this person had not served yet; from now on it has."""
        try:
            with self.writing() as session:
                session.add(UsedCode(person=person, time_step=time_step))
            return True
        except IntegrityError:
            return False

    def add_sign_off(self, row: SignOff) -> None:
        self._write(row)

    def sign_off_of(self, inbox_id: int) -> SignOff | None:
        """What became of that request; None while nothing has."""
        with self.reading() as session:
            return session.exec(select(SignOff).where(SignOff.inbox_id == inbox_id)).first()

    def add_attestation(self, row: Attested) -> None:
        """One that was refused."""
        self._write(row)

    def attestation_of(self, inbox_id: int) -> Attested | None:
        """What became of that request; None while nothing has."""
        with self.reading() as session:
            return session.exec(select(Attested).where(Attested.inbox_id == inbox_id)).first()

    def add_release(self, row: Released) -> None:
        """One that was refused."""
        self._write(row)

    def release_of(self, inbox_id: int) -> Released | None:
        """What became of that request; None while nothing has."""
        with self.reading() as session:
            return session.exec(select(Released).where(Released.inbox_id == inbox_id)).first()

    def _write(self, row: SignOff | Attested | Released) -> None:
        with self.writing() as session:
            self._add(session, row)

    def _add(self, session: Session, row: SignOff | Attested | Released, time_step: int | None = None) -> None:
        session.add(row)
        self._append(session, KINDS[type(row)], {**told_columns(row, without=("id",)), TIME_STEP: time_step})

    def wrong_codes(self, person: str, within_s: float) -> Sequence[datetime]:
        """When this person gave a wrong code, newest first, whatever the code was given for."""
        since = utc_now() - timedelta(seconds=within_s)
        found: list[datetime] = []
        with self.reading() as session:
            for table in (SignOff, Attested, Released):
                query = select(table.at).where(
                    table.person == person, col(table.counts_as_wrong_code).is_(True), col(table.at) >= since
                )
                found += session.exec(query).all()
        return sorted(found, reverse=True)
