from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.syntax.times import IntervalForm, TimeForm, parse_interval_s, parse_time_s

NOON_S = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20260131120000Z", NOON_S),
        ("202601311200Z", NOON_S),
        ("2026013112Z", NOON_S),
        ("20260131120000.5Z", NOON_S + 0.5),
        ("20260131120000,5Z", NOON_S + 0.5),
        ("202601311200.5Z", NOON_S + 30),
        ("2026013112.5Z", NOON_S + 1800),
        ("20260131130000+0100", NOON_S),
        ("20260131130000+01", NOON_S),
        ("20260131063000-0530", NOON_S),
        ("20260131115960Z", NOON_S),
        ("20260131120000", None),
        ("20260131115961Z", None),
        ("20260131115999Z", None),
        ("20260131120000+2400", None),
        ("20260131120000-0160", None),
        ("20260132120000Z", None),
        ("20261331120000Z", None),
        ("00000101000000Z", None),
        ("000001010000Z", None),
        ("2026-01-31T12:00:00Z", None),
        ("", None),
        ("never", None),
    ],
)
def test_generalized_time_is_read_by_the_rules(text: str, expected: float | None) -> None:
    """RFC 4517 §3.3.13: what is left out, fractions of what stands last, offsets; anything else is no time."""
    assert parse_time_s(text, TimeForm.GENERALIZED_TIME) == expected


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("116444736000000000", TimeForm.FILETIME, 0.0),
        ("134142912000000000", TimeForm.FILETIME, 1_769_817_600.0),
        ("0", TimeForm.FILETIME, None),
        ("9223372036854775807", TimeForm.FILETIME, None),
        ("-1", TimeForm.FILETIME, None),
        ("x", TimeForm.FILETIME, None),
        ("20484", TimeForm.DAYS, 1_769_817_600.0),
        ("0", TimeForm.DAYS, 0.0),
        ("-1", TimeForm.DAYS, None),
        ("1.5", TimeForm.DAYS, None),
    ],
)
def test_numbers_are_counted_from_their_epoch_and_may_mean_never(
    text: str, form: TimeForm, expected: float | None
) -> None:
    """Active Directory's accountExpires and shadowExpire."""
    assert parse_time_s(text, form) == expected


@given(st.datetimes(min_value=datetime(1601, 1, 2), max_value=datetime(9999, 1, 1)))  # noqa: DTZ001 - UTC is meant
def test_each_moment_comes_back_as_it_was_written(moment: datetime) -> None:
    """To the microsecond, in both forms."""
    expected_s = moment.replace(tzinfo=UTC).timestamp()
    text = f"{moment:%Y%m%d%H%M%S.%f}Z".zfill(22)
    assert parse_time_s(text, TimeForm.GENERALIZED_TIME) == pytest.approx(expected_s, abs=1e-4)
    ticks = round((expected_s + 11_644_473_600) * 10_000_000)
    assert parse_time_s(str(ticks), TimeForm.FILETIME) == pytest.approx(expected_s, abs=1e-4)


@given(st.text(max_size=25), st.sampled_from(TimeForm))
def test_any_text_is_a_time_or_none(text: str, form: TimeForm) -> None:
    """No value of a directory ends a login."""
    found = parse_time_s(text, form)
    assert found is None or isinstance(found, float)


@pytest.mark.parametrize(
    ("text", "form", "expected_s"),
    [
        ("600", IntervalForm.SECONDS, 600.0),
        ("0", IntervalForm.SECONDS, None),
        ("-1", IntervalForm.SECONDS, None),
        ("10 minutes", IntervalForm.SECONDS, None),
        ("", IntervalForm.SECONDS, None),
        ("\u0663", IntervalForm.SECONDS, None),
        ("-18000000000", IntervalForm.FILETIME, 1800.0),
        ("0", IntervalForm.FILETIME, None),
        (str(-(2**63)), IntervalForm.FILETIME, None),
        ("-" + "9" * 30, IntervalForm.FILETIME, None),
    ],
)
def test_intervals_are_seconds_or_without_end(text: str, form: IntervalForm, expected_s: float | None) -> None:
    """Active Directory writes them as negative numbers of 100 ns (MS-ADA1 §2.370), the least of which is no end."""
    assert parse_interval_s(text, form) == expected_s
