"""The two ways to read the published text, measured in turn."""

from __future__ import annotations

from cicy_utils.benchmark_parsers import benchmark_parsers, read_text_with_literal_eval
from cicy_utils.published import write_text


def test_usual_way_reads_the_same(tmp_path, cicy4_sample):
    write_text(tmp_path / "list.txt", cicy4_sample)
    matrices, hodge = read_text_with_literal_eval(tmp_path / "list.txt")
    assert (matrices == cicy4_sample.matrices).all()
    assert (hodge == cicy4_sample.hodge).all()


def test_parsers_are_timed_side_by_side():
    rows = benchmark_parsers(entries=50, rounds=1)
    assert [row["parser"] for row in rows] == ["ours", "literal_eval"]
    for row in rows:
        assert row.keys() == {"parser", "entries", "seconds", "entries_per_second", "peak_mb"}
        assert row["entries"] == 50
        assert row["seconds"] > 0
        assert 10 < row["peak_mb"] < 2000
