"""Business calendars: when people work, in one reviewed file, ``deployments/calendars.yaml``; and periods that count such time only.

::

    calendars:
      office: { timezone: Europe/Berlin, opens: "09:00", closes: "17:00", country: DE, region: BY, closed: [2026-12-24] }

Public holidays are those of the library ``holidays``. Periods are counted by ``tasks.rules.business``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from blocks.values import Slug, Terms


def _kind(given: Any) -> str:
    return "business" if isinstance(given, str) and "business" in given else "plain"


_BusinessTime = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,2} business (hour|day)s?$")]
_PlainTime = Annotated[timedelta, Field(gt=timedelta(0))]
Period = Annotated[Annotated[_BusinessTime, Tag("business")] | Annotated[_PlainTime, Tag("plain")], Discriminator(_kind)]
"""A plain duration (P7D, PT8H), or one in business time ("8 business hours", "2 business days"), which needs a calendar."""


def known_timezone(name: str) -> str:
    """The name of a time zone. Raises ``ValueError`` for any other text."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError) as error:
        raise ValueError("is no time zone of the IANA database (Europe/Berlin, UTC, …)") from error
    return name


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_WEEK: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Calendar(Terms):
    """When some people work."""

    timezone: Annotated[str, AfterValidator(known_timezone)] = Field(description="IANA time zone of its hours: Europe/Berlin")
    days: tuple[Weekday, ...] = Field(default=_WEEK[:5], min_length=1, description="Working days of the week")
    opens: str = Field(default="00:00", pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", description="When they begin: 09:00")
    closes: str = Field(
        default="24:00",
        pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$",
        description="When they end: 17:00; 24:00 is midnight",
    )
    country: str | None = Field(default=None, description="Nobody works on its public holidays: an ISO 3166 code, DE")
    region: str | None = Field(
        default=None, description="A part of it that has more of them: ISO 3166-2 without the country, BY"
    )
    closed: tuple[date, ...] = Field(default=(), description="Other days on which nobody works")

    @model_validator(mode="after")
    def _has_hours(self) -> Self:
        hours, minutes = (
            int(end) - int(begin) for begin, end in zip(self.opens.split(":"), self.closes.split(":"), strict=True)
        )
        if hours * 60 + minutes < 60:
            raise ValueError("'closes' comes an hour after 'opens', or later; a night's shift is two calendars")
        return self

    @model_validator(mode="after")
    def _holidays_are_known(self) -> Self:
        if self.country is None:
            if self.region is not None:
                raise ValueError("'region' is a part of a country: add 'country'")
            return self
        try:
            _holidays(self.country, self.region, 2000)
        except NotImplementedError as error:
            where = f"{self.country}, {self.region}" if self.region else self.country
            raise ValueError(f"the library 'holidays' knows no public holidays of {where}") from error
        return self

    def works(self, day: date) -> bool:
        """True for a working day."""
        if _WEEK[day.weekday()] not in self.days or day in self.closed:
            return False
        return self.country is None or day not in _holidays(self.country, self.region, day.year)

    def hours(self, day: date) -> tuple[datetime, datetime]:
        """When a working day begins and ends, in UTC. Where clocks change, a whole day has 23 or 25 hours."""
        begin = self._at(day, self.opens)
        # Hours that begin in the hour which is left out in spring may be over before they have begun: then there are none.
        return begin, max(begin, self._at(day, self.closes))

    def _at(self, day: date, clock: str) -> datetime:
        if clock == "24:00":
            day, clock = day + timedelta(days=1), "00:00"
        return datetime.combine(day, time.fromisoformat(clock), ZoneInfo(self.timezone)).astimezone(UTC)


@lru_cache
def _holidays(country: str, region: str | None, year: int) -> frozenset[date]:
    """Public holidays. A year is a value: the library's own objects fill themselves in while they are asked, by several threads too."""
    from holidays import country_holidays  # takes long to import, and most have no calendar

    return frozenset(country_holidays(country, subdiv=region, years=year, expand=False))


class CalendarsFile(Terms):
    """``calendars.yaml``: business calendars by the short names that sign-offs use."""

    calendars: Mapping[Slug, Calendar]
