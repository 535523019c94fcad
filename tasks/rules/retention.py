"""Retention: until when a document must be kept.

A period counts in calendar units, as contracts and laws do: a year later is the same day of the same month, and where that month
has no such day, its last one. Years and months are added first, then days. The day that comes out is the last on which the
document must be kept.
"""

from __future__ import annotations

import calendar
import re
from datetime import date, timedelta

from blocks.values import Retention, RetentionStart

_PERIOD = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?")


def keep_until(record_date: date, agreed: Retention) -> date | None:
    """The last day on which it must be kept; None where only the repository's schedule tells.

    >>> keep_until(date(2024, 2, 29), Retention(period="P1Y")), keep_until(date(2026, 1, 31), Retention(period="P1M"))
    (datetime.date(2025, 2, 28), datetime.date(2026, 2, 28))
    >>> keep_until(date(2026, 5, 3), Retention(period="P10Y", begins=RetentionStart.END_OF_YEAR))
    datetime.date(2036, 12, 31)

    Raises ``ValueError`` for a day beyond the calendar's end.
    """
    if agreed.period is None:
        return None
    begin = date(record_date.year, 12, 31) if agreed.begins is RetentionStart.END_OF_YEAR else record_date
    found = _PERIOD.fullmatch(agreed.period)
    assert found is not None  # noqa: S101 - parsed at the door
    years, months, days = (int(text or 0) for text in found.groups())
    try:
        return _months_later(begin, 12 * years + months) + timedelta(days=days)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{agreed.period} after {begin} is beyond the calendar") from error


def record_day(text: str) -> date:
    """A record date as a template gives it: 2026-11-20 or 20261120, maybe with a time after it. Raises ``ValueError``."""
    try:
        return date.fromisoformat(re.split(r"[T ]", text.strip(), maxsplit=1)[0])
    except ValueError as error:
        raise ValueError(f"{text!r} is no date") from error


def last_day(agreed_then: date, record_date: date, now: Retention | None) -> date:
    """The last day it must be kept: by what was agreed when it was filed, or longer where that was prolonged since."""
    by_now = keep_until(record_date, now) if now is not None else None
    return max(agreed_then, by_now or agreed_then)


def ended(keep_until: date | None, today: date) -> bool:
    """True if it need not be kept any longer. Without an end it is kept."""
    return keep_until is not None and today > keep_until


def _months_later(day: date, months: int) -> date:
    year, month = divmod(12 * day.year + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
