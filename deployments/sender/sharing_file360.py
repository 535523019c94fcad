"""Folders of File 360 shown to people outside until a day: with the sender's own account, which alone may.

What one call gives, another gives again, and what is given can be looked at: so a call whose answer was lost is made once more, and
nobody has to be asked. The workers' account must lack the right; then neither our code nor bare HTTP gets it a share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from blocks.closing import Closing
from blocks.errors import DocumentMissing, RepositoryError, SendRefused
from blocks.repositories.file360 import File360Wire, item_of
from blocks.repositories.otcs_wire import Json, Refusal, moment
from deployments.sender.sharing import Guest, Role, must_be_possible


@dataclass(frozen=True, slots=True)
class Seer:
    """Somebody who is shown a folder now."""

    who: str
    """Mail address of a person, or name of a group."""
    role: int
    until: datetime | None
    """None: without end."""


class SharedFolders(Closing):
    """The folders that one account of File 360 shows to others. To be signed in with the sender's own."""

    def __init__(self, wire: File360Wire) -> None:
        self._wire = wire

    def share(self, folder: str, guests: Sequence[Guest], until: datetime, message: str = "") -> None:
        """Show a folder, by its id, to guests until a whole second. Said again it changes nothing, and tells nobody.

        Raises ``SendRefused`` without guests, for what is over, and where anybody else sees it already; ``Refusal`` where it is not
        shown as asked: then it may be shown to some of them, or for longer, and is to be stopped.
        """
        what, wanted = f"share of folder {folder}", {guest.mail.casefold() for guest in guests}
        must_be_possible(what, [folder], guests, until.date())
        if until <= datetime.now(UTC):
            raise SendRefused(f"{what}: {until:%Y-%m-%d %H:%M} UTC is over; nothing was shared")
        if self.shows(folder, guests, until):
            return
        seers = self.seers(folder)
        others = [one.who for one in seers if one.who.casefold() not in wanted]
        if others or self.links(folder) or (not seers and self.shared(folder)):
            raise SendRefused(
                f"{what} at {self._wire.url}: it is shared already with others ({', '.join(others) or 'by a link or a folder above'}); "
                "stop that first, nothing was changed"
            )
        members = [{"email": guest.mail, "role": int(guest.role)} for guest in guests]
        body = {"members": members, "expiration": until.isoformat(), "message": message}
        self._wire.put(what, "POST", f"api/v1/folders/{folder}/collaborators", body)
        if not self.shows(folder, guests, until):
            raise Refusal(
                f"{what} at {self._wire.url}: it is not shown as asked (who, as what, until {until:%Y-%m-%d %H:%M} UTC)",
                "partial",
            )

    def shows(self, folder: str, guests: Sequence[Guest], until: datetime) -> bool:
        """True if a folder is shown by itself to exactly these guests until then, and to nobody by a link."""
        wanted = {guest.mail.casefold(): (guest.role, until) for guest in guests}
        return {one.who.casefold(): (one.role, one.until) for one in self.seers(folder)} == wanted and not self.links(folder)

    def seers(self, folder: str) -> list[Seer]:
        """Who is shown a folder by itself now; those who see a folder around it are not told here, nor those who have a link."""
        try:
            return [Seer(_named(one), int(one.get("role") or 0), moment(one.get("expiration"))) for one in self._given(folder)]
        except (TypeError, ValueError) as error:
            raise RepositoryError(
                f"share of folder {folder} at {self._wire.url}: the answer does not tell who sees it until when ({error!r})"
            ) from error

    def given(self, folder: str) -> bool:
        """True if a folder is shown to anybody by itself now, or by a link to it, whatever is said of them."""
        return bool(self._given(folder) or self.links(folder))

    def _given(self, folder: str) -> list[Json]:
        return self._wire.some(f"share of folder {folder}", f"api/v1/folders/{folder}/collaborators")

    def stop(self, folder: str) -> None:
        """Show a folder to nobody any more; one that is not shared stays so. Raises ``SendRefused`` where it is seen nevertheless."""
        what = f"share of folder {folder}"
        if self._given(folder):
            self._wire.put(what, "DELETE", f"api/v1/folders/{folder}/collaborators")
        for link in self.links(folder):
            try:
                self._wire.put(what, "DELETE", f"api/v1/shares/{link}")
            except DocumentMissing:
                continue  # closed by the call before, whose answer was lost, or it has come to its end
        if self.shared(folder):
            raise SendRefused(
                f"{what} at {self._wire.url}: people outside see it nevertheless, by a folder above it; stop that by hand"
            )

    def shared(self, folder: str) -> bool:
        """True if anybody outside is shown a folder now, in whatever way."""
        what = f"folder {folder}"
        return item_of(self._wire.ask(what, "GET", f"api/v1/folders/{folder}"), what).shown_outside

    def links(self, folder: str) -> list[str]:
        """Ids of the links by which anybody sees a folder now."""
        return [str(one["id"]) for one in self._wire.some(f"links to folder {folder}", f"api/v1/folders/{folder}/shares")]

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        self._wire.close()


def viewers(mails: Sequence[str]) -> list[Guest]:
    """Guests who may look and download, and nothing else."""
    return [Guest(mail, Role.VIEWER) for mail in mails]


def _named(told: Any) -> str:
    return str(told.get("email") or told.get("name") or told.get("id"))
