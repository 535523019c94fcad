"""Until when a document must be kept: calendars have odd corners, and every one of them is somebody's legal date."""

from __future__ import annotations

import calendar
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from blocks.values import AtEnd, Classification, Inbound, Retention, RetentionStart, Target
from tasks.rules.retention import ended, keep_until, record_day


@pytest.mark.parametrize(
    ("record_date", "period", "expected"),
    [
        pytest.param(date(2026, 11, 20), "P10Y", date(2036, 11, 20), id="ten years later is the same day"),
        pytest.param(date(2024, 2, 29), "P1Y", date(2025, 2, 28), id="a leap day has its anniversary on the last of February"),
        pytest.param(date(2024, 2, 29), "P4Y", date(2028, 2, 29), id="and in a leap year on itself"),
        pytest.param(date(2096, 2, 29), "P4Y", date(2100, 2, 28), id="2100 is no leap year"),
        pytest.param(date(2023, 2, 28), "P1Y", date(2024, 2, 28), id="the 28th stays the 28th"),
        pytest.param(
            date(2026, 1, 31), "P1M", date(2026, 2, 28), id="a month after the 31st of January is the last of February"
        ),
        pytest.param(date(2024, 1, 31), "P1M", date(2024, 2, 29), id="which in a leap year is the 29th"),
        pytest.param(date(2026, 3, 31), "P18M", date(2027, 9, 30), id="month ends over the turn of a year"),
        pytest.param(date(2026, 12, 31), "P2M", date(2027, 2, 28), id="from one year into the next"),
        pytest.param(date(2024, 1, 31), "P1M1D", date(2024, 3, 1), id="months first, then days"),
        pytest.param(date(2024, 2, 28), "P1D", date(2024, 2, 29), id="days count the leap day"),
        pytest.param(date(2026, 11, 20), "P90D", date(2027, 2, 18), id="ninety days are ninety days"),
        pytest.param(date(2026, 5, 5), "P1Y6M10D", date(2027, 11, 15), id="all three"),
        pytest.param(date(2026, 5, 5), "P0D", date(2026, 5, 5), id="not beyond its own day"),
    ],
)
def test_the_last_day_it_must_be_kept(record_date: date, period: str, expected: date) -> None:
    assert keep_until(record_date, Retention(period=period)) == expected


def test_tax_law_counts_from_the_end_of_the_year() -> None:
    agreed = Retention(period="P10Y", begins=RetentionStart.END_OF_YEAR)
    assert keep_until(date(2026, 1, 1), agreed) == keep_until(date(2026, 12, 31), agreed) == date(2036, 12, 31)


def test_a_schedule_alone_tells_no_day() -> None:
    assert keep_until(date(2026, 1, 1), Retention(schedule="FIN-10")) is None
    assert not ended(None, date(9999, 12, 31))


def test_it_ends_after_its_last_day() -> None:
    assert not ended(date(2026, 12, 31), date(2026, 12, 31))
    assert ended(date(2026, 12, 31), date(2027, 1, 1))


def test_the_calendar_has_an_end() -> None:
    with pytest.raises(ValueError, match="beyond the calendar"):
        keep_until(date(9990, 1, 1), Retention(period="P10Y"))
    with pytest.raises(ValueError, match="beyond the calendar"):
        keep_until(date(9999, 12, 31), Retention(period="P1D"))


@pytest.mark.parametrize("period", ["P", "10Y", "PT5M", "P1Y ", "P-1Y", "P1.5Y", "P1D1Y", "p1y", ""])
def test_what_is_no_period_is_refused_at_the_door(period: str) -> None:
    with pytest.raises(ValidationError):
        Retention(period=period)


def test_how_long_must_be_said_and_a_schedule_needs_a_record() -> None:
    with pytest.raises(ValidationError, match="say how long"):
        Retention()
    with pytest.raises(ValidationError, match="add 'records_class'"):
        Target(repository="ecm", folder="In", retention=Retention(schedule="FIN-10"))
    assert Target(repository="ecm", folder="In", records_class="Invoices", retention=Retention(schedule="FIN-10"))


@settings(deadline=None)
@given(
    begin=st.dates(date(1900, 1, 1), date(2200, 12, 31)),
    years=st.integers(0, 999),
    months=st.integers(0, 36),
    days=st.integers(0, 400),
)
def test_longer_is_never_shorter(begin: date, years: int, months: int, days: int) -> None:
    def until(period: str) -> date:
        found = keep_until(begin, Retention(period=period))
        assert found is not None
        return found

    end = until(f"P{years}Y{months}M{days}D")
    assert begin <= until(f"P{years}Y{months}M") <= end <= until(f"P{years}Y{months}M{days + 1}D")
    exact = until(f"P{years}Y{months}M")
    assert exact.day == begin.day or exact.day == calendar.monthrange(exact.year, exact.month)[1] < begin.day
    assert end - exact == timedelta(days=days)


@pytest.mark.parametrize("text", ["2026-11-20", "20261120", " 2026-11-20 ", "2026-11-20T08:00:00", "2026-11-20 08:00"])
def test_record_dates_as_names_and_tables_write_them(text: str) -> None:
    assert record_day(text) == date(2026, 11, 20)


@pytest.mark.parametrize("text", ["", "20.11.2026", "2026-13-01", "today", "11/20/2026", "2026-02-30"])
def test_a_date_is_never_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="no date"):
        record_day(text)


def test_what_returns_is_a_version_of_another_streams_document_and_not_removed() -> None:
    target = Target(repository="ecm", folder="In", retention=Retention(period="P1Y", at_end=AtEnd.REMOVE))
    classify = (Classification(pattern=".*", doctype="invoice"),)
    with pytest.raises(ValidationError, match="removing one removes all versions"):
        Inbound(endpoint="drop", folder="/in", classify=classify, target=target, returns="invoices")
    assert Inbound(endpoint="drop", folder="/in", classify=classify, target=target)
