"""Business time: weekends, holidays, nights, and the two days of a year that have not 24 hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from blocks.calendars import Calendar, Period
from tasks.rules.business import after

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
OFFICE = Calendar(
    timezone="Europe/Berlin", opens="09:00", closes="17:00", country="DE", region="BY", closed=(date(2026, 12, 24),)
)
ALWAYS = Calendar(timezone="Europe/Berlin", days=("mon", "tue", "wed", "thu", "fri", "sat", "sun"))
WEEKDAYS = Calendar(timezone="Europe/Berlin")
WALL_STREET = Calendar(timezone="America/New_York", opens="09:30", closes="16:00", country="US")


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("calendar", "begin", "period", "expected"),
    [
        pytest.param(OFFICE, "2026-11-18 10:00", "3 business hours", "2026-11-18 13:00", id="within a day"),
        pytest.param(OFFICE, "2026-11-18 09:00", "8 business hours", "2026-11-18 17:00", id="a whole day ends with it"),
        pytest.param(OFFICE, "2026-11-18 15:00", "8 business hours", "2026-11-19 15:00", id="over night"),
        pytest.param(OFFICE, "2026-11-20 15:00", "8 business hours", "2026-11-23 15:00", id="over a weekend"),
        pytest.param(OFFICE, "2026-11-18 03:00", "1 business hour", "2026-11-18 10:00", id="begun before work"),
        pytest.param(OFFICE, "2026-11-18 17:00", "1 business hour", "2026-11-19 10:00", id="begun as work ends"),
        pytest.param(OFFICE, "2026-11-21 12:00", "1 business hour", "2026-11-23 10:00", id="begun on a Saturday"),
        pytest.param(OFFICE, "2026-11-18 15:00", "2 business days", "2026-11-20 15:00", id="days keep the hour"),
        pytest.param(OFFICE, "2026-11-20 15:00", "2 business days", "2026-11-24 15:00", id="days over a weekend"),
        pytest.param(OFFICE, "2026-11-21 12:00", "2 business days", "2026-11-25 09:00", id="days from a Saturday"),
        pytest.param(OFFICE, "2026-11-18 19:00", "1 business day", "2026-11-20 09:00", id="days from an evening"),
        pytest.param(OFFICE, "2026-04-02 16:00", "2 business hours", "2026-04-07 10:00", id="Easter, with its Monday"),
        pytest.param(OFFICE, "2027-01-05 16:00", "1 business day", "2027-01-07 16:00", id="a holiday of one region"),
        pytest.param(
            OFFICE.model_copy(update={"region": None}), "2027-01-05 16:00", "1 business day", "2027-01-06 16:00", id="and not of another"
        ),
        pytest.param(OFFICE, "2026-12-23 16:00", "2 business days", "2026-12-29 16:00", id="Christmas, and an own closed day"),
        pytest.param(OFFICE, "2026-12-31 16:00", "2 business hours", "2027-01-04 10:00", id="over the year's end"),
        pytest.param(ALWAYS, "2026-03-29 00:00", "23 business hours", "2026-03-30 00:00", id="a day of 23 hours"),
        pytest.param(ALWAYS, "2026-10-25 00:00", "25 business hours", "2026-10-26 00:00", id="a day of 25 hours"),
        pytest.param(ALWAYS, "2026-03-29 00:00", "1 business day", "2026-03-30 00:00", id="and it is one day"),
        pytest.param(ALWAYS, "2026-10-25 00:00", "1 business day", "2026-10-26 00:00", id="as is that of 25 hours"),
        pytest.param(ALWAYS, "2026-03-28 02:30", "1 business day", "2026-03-29 03:30", id="an hour that is left out comes later"),
        pytest.param(ALWAYS, "2026-10-24 02:30", "1 business day", "2026-10-25 02:30", id="of an hour that comes twice, the first"),
        pytest.param(ALWAYS, "2026-10-25 00:00", "4 business hours", "2026-10-25 03:00", id="an hour that comes twice counts twice"),
        pytest.param(WEEKDAYS, "2026-03-27 12:00", "24 business hours", "2026-03-30 12:00", id="a weekend that loses an hour"),
        pytest.param(OFFICE, "2026-10-23 16:00", "2 business hours", "2026-10-26 10:00", id="a weekend that gains one"),
    ],
)  # fmt: skip
def test_after(calendar: Calendar, begin: str, period: str, expected: str) -> None:
    over = after(berlin(begin).astimezone(UTC), period, calendar)
    assert over == berlin(expected).astimezone(UTC), over.astimezone(BERLIN)
    assert over.tzinfo is UTC


def test_a_holiday_that_is_kept_on_another_day() -> None:
    """New Year's Day of 2028 is a Saturday, and kept on the last day of 2027; Independence Day of 2027 a Sunday, kept on Monday."""
    at = {
        day: datetime.combine(day, datetime.min.time().replace(hour=10), NEW_YORK)
        for day in (date(2027, 7, 2), date(2027, 12, 30))
    }
    assert after(at[date(2027, 7, 2)], "1 business day", WALL_STREET) == datetime(2027, 7, 6, 10, tzinfo=NEW_YORK)
    assert after(at[date(2027, 12, 30)], "1 business day", WALL_STREET) == datetime(2028, 1, 3, 10, tzinfo=NEW_YORK)


def test_a_plain_duration_asks_no_calendar() -> None:
    begin = berlin("2026-11-20 15:00")
    assert after(begin, timedelta(days=2), None) == begin + timedelta(days=2)
    with pytest.raises(ValueError, match="needs a calendar"):
        after(begin, "2 business days", None)


def test_hours_that_one_day_does_not_have() -> None:
    """Work from half past two to half past three, where in spring the clock goes from two to three."""
    odd = ALWAYS.model_copy(update={"opens": "02:30", "closes": "03:30"})
    assert after(berlin("2026-03-28 12:00"), "1 business hour", odd) == berlin("2026-03-30 03:30")
    assert after(berlin("2026-03-28 02:45"), "2 business days", odd) == berlin("2026-03-30 02:45")


def test_a_calendar_without_working_days_is_told() -> None:
    closed = Calendar(timezone="UTC", days=("mon",), closed=tuple(date(2026, 1, 5) + timedelta(weeks=n) for n in range(1600)))
    for period in ("1 business hour", "1 business day"):
        with pytest.raises(ValueError, match="too few working days"):
            after(datetime(2026, 1, 1, tzinfo=UTC), period, closed)


MOMENTS = st.datetimes(datetime(2025, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))
CALENDARS = st.sampled_from(
    [OFFICE, ALWAYS, WEEKDAYS, WALL_STREET, ALWAYS.model_copy(update={"opens": "02:15", "closes": "03:15"})]
)


@settings(max_examples=150, deadline=None)
@given(MOMENTS, st.integers(1, 40), CALENDARS)
def test_so_much_working_time_lies_between(begin: datetime, count: int, calendar: Calendar) -> None:
    """Counted one day after the other, whatever the rule did."""
    over = after(begin, f"{count} business hours", calendar)
    day, worked = begin.astimezone(ZoneInfo(calendar.timezone)).date(), timedelta()
    while day <= over.astimezone(ZoneInfo(calendar.timezone)).date():
        if calendar.works(day):
            opens, closes = calendar.hours(day)
            worked += max(timedelta(), min(over, closes) - max(begin, opens))
        day += timedelta(days=1)
    assert worked == timedelta(hours=count)
    assert after(begin, f"{count} business days", calendar) > begin


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        pytest.param({"timezone": "Mars/Base"}, "no time zone", id="no such time zone"),
        pytest.param({"country": "XX"}, "knows no public holidays of XX", id="no such country"),
        pytest.param({"country": "DE", "region": "ZZ"}, "knows no public holidays of DE, ZZ", id="no such region"),
        pytest.param({"region": "BY"}, "add 'country'", id="a region of no country"),
        pytest.param({"opens": "17:00", "closes": "09:00"}, "an hour after", id="over midnight"),
        pytest.param({"opens": "9:00"}, "match pattern", id="an hour of one digit"),
        pytest.param({"days": ["monday"]}, "'mon'", id="a day's long name"),
    ],
)
def test_a_calendar_that_is_none(facts: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Calendar.model_validate({"timezone": "Europe/Berlin", **facts})


@pytest.mark.parametrize(
    "text", ["0 business days", "1000 business hours", "2 business weeks", "1.5 business days", "-P1D", "P0D", "soon"]
)
def test_a_period_that_is_none(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[timedelta | str](Period).validate_python(text)
