"""Business time: when a period is over, of which only working time counts.

- *Business hours* run while people work, and by the clock on the wall of nobody: an hour is an hour, also when clocks change.
- *Business days* end at the hour at which they began, so many working days later; who begins outside working hours begins when
  these begin.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from blocks.calendars import Calendar

_FURTHEST = timedelta(days=366 * 30)


def after(begin: datetime, period: timedelta | str, calendar: Calendar | None) -> datetime:
    """When a period that begins at that moment is over, in the moment's own zone.

    Raises ``ValueError`` for business time without a calendar, or in one that has too few working days.
    """
    if isinstance(period, timedelta):
        return begin + period
    if calendar is None:
        raise ValueError(f"{period!r} needs a calendar")
    count, unit = int(period.split()[0]), period.split()[2]
    over = _hours(begin, timedelta(hours=count), calendar) if unit.startswith("hour") else _days(begin, count, calendar)
    return over.astimezone(begin.tzinfo)


def _hours(begin: datetime, left: timedelta, calendar: Calendar) -> datetime:
    for day in _working_days(begin, calendar):
        opens, closes = calendar.hours(day)
        start = max(begin, opens)
        if start < closes:
            if start + left <= closes:
                return start + left
            left -= closes - start
    raise _too_few()


def _days(begin: datetime, count: int, calendar: Calendar) -> datetime:
    started: datetime | None = None
    for day in _working_days(begin, calendar):
        opens, closes = calendar.hours(day)
        if started is None:
            if begin < closes:
                started = max(begin, opens).astimezone(ZoneInfo(calendar.timezone))
            continue
        count -= 1
        if count == 0:
            same_hour = datetime.combine(day, started.time().replace(fold=0), started.tzinfo)
            return min(max(same_hour, opens), closes)
    raise _too_few()


def _working_days(begin: datetime, calendar: Calendar) -> Iterator[date]:
    """From the day of that moment, where they work."""
    day = begin.astimezone(ZoneInfo(calendar.timezone)).date()
    last = day + _FURTHEST
    while day < last:
        if calendar.works(day):
            yield day
        day += timedelta(days=1)


def _too_few() -> ValueError:
    return ValueError("the calendar has too few working days for this period; check it")
