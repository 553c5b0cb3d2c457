"""The bench still runs: its smallest disk, the rows that everybody asks for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import running
import servers

HOME = Path(__file__).parents[2]


def table(tmp_path, *rows: str) -> dict[str, list[str]]:
    """The cells of the table that the bench prints for these rows on a disk of 20 MB, by the rows' names."""
    servers.needs("mke2fs")
    minio = os.environ.get("S3REG_MINIO") or str(Path.home() / ".cache/s3reg/bin/minio")
    servers.needs(minio)
    size = [
        "--gb=0.02",
        "--templates=30",
        "--rounds=1",
        "--settle=no",
        f"--cache={tmp_path}/cache",
        f"--tree={HOME}/src",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *rows, *size, "--out", str(tmp_path / "table.md")],
        cwd=HOME,
        env=running.environment(S3REG_MINIO=minio),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    lines = (tmp_path / "table.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in cells[2:]}


def test_the_bench_measures_beside_s5cmd_what_a_push_and_a_pull_cost_and_leaves_only_its_disk(tmp_path):
    rows = table(tmp_path, "push", "pull")
    for name in ("push", "push without proof", "pull, durable", "pull --no-sync"):
        measured, ratio, goal, met = rows[name]
        assert re.match(r"\d+\.\d s, \d+\.\d\d raw GB/s", measured)
        assert re.match(r"\d+\.\d\d \S$", ratio)
        assert goal.endswith("s5cmd")
        assert met in {"yes", "**no**"}
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["disk-0.02gb"]


@pytest.mark.campaign
def test_the_bench_measures_what_an_update_a_list_and_a_login_cost(tmp_path):
    rows = table(tmp_path, "delta-push", "list", "login")
    for store in ("on MinIO", "in a directory"):
        for name in ("v1 list", "v2 list", "native list, with versions", "detail of one"):
            assert re.match(r"p50 \d+ ms, ", rows[f"30 templates {store}: {name}"][0])
    for name in ("a login with an API key", "a login with an API key, 4 callers at once"):
        assert re.match(r"p50 \d+\.\d ms, p99 ", rows[name][0])
    told = rows["delta push: bytes before compression"][0]
    stored, changed = map(int, re.match(r"(\d+) MiB for (\d+) MiB", told).groups())
    assert 0 < changed <= stored <= 20
