import json

import pytest

from benchmarks import gpu

TINY = gpu.Sizes(
    large="test_efficientnet",
    small="test_efficientnet",
    contrasted="test_efficientnet",
    large_side=32,
    small_side=32,
    small_dim=4,
    large_pictures=8,
    small_pictures=8,
    embed_batch=4,
    batches=(4,),
    suite=(24, (16,), 2),
    turns=1,
)


@pytest.mark.parametrize("part", [part for part in gpu.PARTS if part != "tests"])
def test_each_part_runs_on_a_cpu_with_tiny_sizes(tmp_path, capsys, part):
    out = tmp_path / "gpu.jsonl"
    gpu.main(["--out", str(out), "--only", part], TINY)
    printed = capsys.readouterr().out
    assert "did not end" not in printed
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows
    assert all(row["part"] == part and row["device"] for row in rows)
    assert all(f"| {row['path']} |" in printed for row in rows)


def test_a_part_that_fails_does_not_keep_the_next_from_running(tmp_path, capsys, monkeypatch):
    def fails(sizes):
        raise RuntimeError("no such kernel")
        yield

    monkeypatch.setitem(gpu.PARTS, "rates", fails)
    gpu.main(["--out", str(tmp_path / "gpu.jsonl"), "--only", "rates", "suite"], TINY)
    printed = capsys.readouterr()
    assert "| rates | did not end" in printed.out
    assert "no such kernel" in printed.err
    assert "| classifier suite |" in printed.out
