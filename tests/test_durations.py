"""Times in words."""

import pytest

from cicy_utils.durations import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (52, "52 s"), (170, "3 min"), (7 * 3600 + 300, "7 h 5 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
