"""Expectations: by when something must have come, on the partner's clock, whatever that clock does in spring and autumn."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from blocks.calendars import Calendar
from blocks.values import Expected, Weekday

_LONGEST = 800
"""Days to look back: two years, so that the 29th of February is found."""


def due(expected: Expected, zone: str, day: date, calendar: Calendar | None = None) -> datetime | None:
    """When on a day of the partner's something must have come, in UTC; None if nothing must.

    ``calendar``: the one that the expectation names; on days on which nobody works by it nothing must come.

    Where clocks are set back, the time comes twice: the later one counts. Where they are set forward and it never comes, the
    moment counts that would have been it on the clock of before.
    """
    if tuple(Weekday)[day.weekday()] not in expected.days or day in expected.except_on:
        return None
    if calendar is not None and not calendar.works(day):
        return None
    last = monthrange(day.year, day.month)[1]
    if expected.month_days and day.day not in {_day_of(number, last) for number in expected.month_days}:
        return None
    place = ZoneInfo(zone)
    return max(datetime.combine(day, expected.by, place).replace(fold=fold).astimezone(UTC) for fold in (0, 1))


def last_due(
    expected: Expected, zone: str, now: datetime, calendar: Calendar | None = None
) -> tuple[datetime, datetime] | None:
    """The last two moments that have passed, the earlier one first: something must have come between them. None if there are none."""
    today = now.astimezone(ZoneInfo(zone)).date()
    passed: list[datetime] = []
    for back in range(_LONGEST * 2):
        moment = due(expected, zone, today - timedelta(days=back), calendar)
        if moment is not None and moment <= now:
            passed.append(moment)
        if len(passed) == 2:
            return passed[1], passed[0]
    return None


def owed(came: Iterable[datetime], before: datetime, last: datetime, missed: bool) -> bool:
    """True while what was due last has not come, though something may have come since the moment before that.

    Where that one was missed too, the first half of the time between them is its own: what comes every day an hour late is late
    every day, and what was left out once does not make all that follows late.
    """
    since = before + (last - before) / 2 if missed else before
    return not any(moment > since for moment in came)


def _day_of(number: int, last: int) -> int:
    return max(1, last + 1 + number) if number < 0 else min(number, last)
