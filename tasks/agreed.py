"""Load what was agreed about a stream from the reviewed files."""

from __future__ import annotations

from blocks.calendars import Calendar
from blocks.errors import ConfigurationError
from blocks.profile import load_calendars, load_cases, load_partner, load_repositories
from blocks.settings import settings
from blocks.values import Duplicates, Expected, Inbound
from tasks.consignment import Agreed


def load_stream(partner: str, stream: str) -> Agreed:
    """An inbound stream with its endpoint and repository. Raises ``ConfigurationError`` that says what to mend."""
    agreed = _load(partner, stream)
    if agreed.terms.transfers is not None:
        raise ConfigurationError(
            f"{partner}/{stream}: holds other programs' transfers; the flow 'collect' keeps records of them"
        )
    return agreed


def load_transfers(partner: str, stream: str) -> Agreed:
    """A stream of other programs' transfers. Raises ``ConfigurationError`` that says what to mend."""
    agreed = _load(partner, stream)
    if agreed.terms.transfers is None:
        raise ConfigurationError(f"{partner}/{stream}: says nothing of 'transfers'; the flow 'intake' brings it in")
    # Logs and acknowledgements of different sets may be the same to the byte, and which names count the sets' patterns say.
    agreed.terms = agreed.terms.model_copy(update={"duplicates": Duplicates.FILE, "patterns": ("*",)})
    return agreed


def load_inbound(partner: str, stream: str) -> Agreed:
    """An inbound stream of either kind, for what is done with both. Raises ``ConfigurationError`` that says what to mend."""
    return _load(partner, stream)


def _load(partner: str, stream: str) -> Agreed:
    folder = settings().profiles
    profile = load_partner(partner, folder)
    terms = profile.streams.get(stream)
    if terms is None:
        raise ConfigurationError(
            f"{partner}: no stream '{stream}'; the profile in {folder} has {', '.join(sorted(profile.streams)) or 'none'}"
        )
    if not isinstance(terms, Inbound):
        raise ConfigurationError(f"{partner}/{stream}: is not an inbound stream; intake only brings in")
    repositories = load_repositories(folder)
    repository = repositories.get(terms.target.repository)
    if repository is None:
        raise ConfigurationError(
            f"{partner}/{stream}: no repository '{terms.target.repository}'; repositories.yaml has {', '.join(sorted(repositories))}"
        )
    terms = terms.model_copy(update={"owner": terms.owner or profile.owner})
    endpoint, calendar = profile.endpoints[terms.endpoint], _calendar(f"{partner}/{stream}", terms.expect)
    recorded = load_cases(folder) is not None
    return Agreed(
        partner, stream, terms, endpoint, repository, profile.digest, profile.timezone, calendar, records_cases=recorded
    )


def _calendar(key: str, expected: Expected | None) -> Calendar | None:
    if expected is None or expected.calendar is None:
        return None
    calendars = load_calendars(settings().profiles)
    if expected.calendar not in calendars:
        raise ConfigurationError(f"{key}: calendars.yaml has no calendar '{expected.calendar}', by which something is expected")
    return calendars[expected.calendar]
