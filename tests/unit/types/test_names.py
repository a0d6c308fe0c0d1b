"""Names and versions."""

from __future__ import annotations

import pytest

from grange.types.names import parse_version


@pytest.mark.parametrize(
    "text", ["1.0", "1.0.0.0", "01.0.0", "1.0.-1", "", "1.0.0 ", "v1.0.0", "1.0.٣", "1.0." + "9" * 10]
)
def test_what_is_no_version(text: str) -> None:
    assert parse_version(text) is None


def test_versions_are_three_numbers() -> None:
    assert parse_version("10.0.999999999") == (10, 0, 999_999_999)
