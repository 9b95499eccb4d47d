"""The benchmark runs, measures both ways, and prints what it wrote."""

from __future__ import annotations

import json

from cicy_utils import benchmark


def test_topology_benchmark(tmp_path, capsys):
    target = tmp_path / "benchmark.json"
    sizes = ["--rounds", "1", "--plain-sample", "3", "--subset", "50"]
    benchmark.main([*sizes, "--output", str(target)])
    content = json.loads(target.read_text())
    assert [row["quantity"] for row in content["topology"]] == ["Hodge numbers", "Euler numbers"]
    for row in content["topology"]:
        assert row["configurations"] == 50
        assert 0 < row["least"] <= row["seconds"] <= row["most"]
        assert row["ratio"] > 1  # plain Python is two orders of magnitude slower
    assert capsys.readouterr().out.strip() == benchmark.markdown(content)
