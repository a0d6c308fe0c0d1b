"""`grange fg stats`: tables, percentiles, histograms, correlations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.running import Grange


def test_numbers_and_others_are_in_tables_that_fit(shop: Grange) -> None:
    out = shop("fg", "stats", "last_order").out
    numbers, others = out.split("\n\n")
    assert numbers.splitlines()[0].split() == ["name", "count", "nulls", "distinct", "mean", "std", "min", "p50", "max"]
    assert [line.split()[0] for line in numbers.splitlines()[1:]] == ["amount", "amount_per_item"]
    assert "2025-01-01 to 2025-03-31" in others and "datetime" in others


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_everything_fits_the_terminal(shop: Grange, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    ran = shop("fg", "stats", "last_order", "--percentiles", "--histogram", "--correlations")
    assert ran.code == 0 and max(map(len, ran.out.splitlines())) <= int(width)


def test_percentiles(shop: Grange) -> None:
    lines = shop("fg", "stats", "last_order", "--percentiles", "--features", "amount,ordered_at").out.splitlines()
    assert ["name", "p1", "p5", "p25", "p50", "p75", "p95", "p99"] in [line.split() for line in lines]
    (times,) = [line.split() for line in lines if line.startswith("ordered_at") and "datetime" not in line]
    assert (len(times) == 6 and times == sorted(times[1:])) or times[1:] == sorted(times[1:])


def test_a_histogram_has_a_bar_for_each_range_and_counts_all_rows(shop: Grange) -> None:
    out = shop("fg", "stats", "last_order", "--histogram", "--features", "amount").out
    bars = out.partition("amount:\n")[2].splitlines()
    assert len(bars) == 10 and all(" .. " in bar for bar in bars)
    counts = [int(bar.split()[3]) for bar in bars]
    lengths = [bar.count("█") for bar in bars]
    assert sum(counts) == 199 and max(lengths) == 30
    assert lengths.index(30) == counts.index(max(counts)) and lengths.count(30) == 1
    texts = shop("fg", "stats", "last_order", "--histogram", "--features", "customer_id").out
    assert "all others" in texts


def test_correlations_are_shown_pair_by_pair(shop: Grange) -> None:
    out = shop("fg", "stats", "last_order", "--correlations").out
    assert out.splitlines()[-1].split()[:2] == ["amount", "amount_per_item"]
    data = shop("fg", "stats", "last_order", "--correlations", "--json").json
    by_name = {item["name"]: item for item in data}
    assert by_name["amount"]["correlations"]["amount"] == 1.0
    assert by_name["amount"]["correlations"]["amount_per_item"] == pytest.approx(float(out.split()[-1]), abs=1e-3)
    assert "correlations" not in by_name["customer_id"]
    assert "correlations" not in shop("fg", "stats", "last_order", "--json").json[3]
    alone = shop("fg", "stats", "last_order", "--correlations", "--features", "amount")
    assert "no two columns of numbers" in alone.out


def test_json_has_everything(shop: Grange) -> None:
    (item,) = shop("fg", "stats", "last_order", "--features", "amount", "--json").json
    assert len(item["percentiles"]) == 99 and len(item["histogram"]["counts"]) == 20
    assert {"count", "nulls", "mean", "std", "min", "max", "distinct"} <= set(item)


def test_what_was_kept_is_computed_anew_when_asked(shop: Grange) -> None:
    first = shop("fg", "stats", "last_order@1.0.0", "--json").json
    assert shop("fg", "stats", "last_order", "--compute", "--json").json == first
    assert shop("fg", "stats", "last_order", "--version", "1.0.0", "--json").json == first
    assert shop("fg", "stats", "last_order", "--version", "9.0.0").code == 3


def test_rows_pushed_since_are_told(shop: Grange) -> None:
    assert "pushed since" not in shop("fg", "stats", "customer_profile").out
    row = {"customer_id": "007", "changed_at": "2025-06-01T00:00:00Z", "country": "NZ", "plan": "pro"}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    assert shop("fg", "insert", "customer_profile", "--file", "rows.jsonl").code == 0
    assert shop("fg", "stats", "customer_profile").out.endswith("with 1 row pushed since version 1.0.0\n")
