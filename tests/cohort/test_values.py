import re
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphocytosis.cohort.values import completed_years, parse_date


class TestParseDate:
    @given(st.dates(), st.booleans())
    def test_both_forms_say_the_same_day_as_datetime_does(self, day, padded):
        month, dom = (f"{day.month:02d}", f"{day.day:02d}") if padded else (day.month, day.day)
        slashed, dashed = f"{month}/{dom}/{day.year:04d}", f"{dom}-{month}-{day.year:04d}"
        assert parse_date(slashed) == datetime.strptime(slashed, "%m/%d/%Y").date() == day
        assert parse_date(f" {dashed} ") == datetime.strptime(dashed, "%d-%m-%Y").date() == day

    @given(st.text(alphabet="0123456789/-", max_size=11))
    def test_whatever_is_no_such_date_is_refused(self, text):
        expected = None
        for form in ("%m/%d/%Y", "%d-%m-%Y", "%Y-%m-%d"):
            try:
                expected = datetime.strptime(text, form).date()
            except ValueError:
                continue
        if expected is None:
            with pytest.raises(ValueError, match=re.escape(repr(text))):
                parse_date(text)
        else:
            assert parse_date(text) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "1950-13-01",
            "50-05-01",
            "1950/05/01",
            "1950-05-01 noon",
            "5/1/50",
            "5.1.1950",
            "31-02-1950",
            "13/1/1950",
            "1/13-1950",
        ],
    )
    def test_other_forms_and_days_that_do_not_exist_are_refused(self, text):
        with pytest.raises(ValueError, match=re.escape(repr(text))):
            parse_date(text)


class TestCompletedYears:
    @settings(max_examples=40)
    @given(st.dates(date(1900, 1, 1), date(2030, 1, 1)), st.integers(0, 9000))
    def test_is_the_number_of_birthdays_lived(self, born, days):
        birthdays = 0
        for n in range(1, days + 1):
            day = born + timedelta(days=n)
            # Who is born on the 29th of February is a year older on the day after the 28th.
            leapling = (born.month, born.day) == (2, 29) and (day.month, day.day) == (3, 1)
            skipped = leapling and (day - timedelta(days=1)).day == 28
            birthdays += (day.month, day.day) == (born.month, born.day) or skipped
        assert completed_years(born, born + timedelta(days=days)) == birthdays

    def test_is_negative_before_birth(self):
        assert completed_years(date(2000, 1, 2), date(2000, 1, 1)) == -1
