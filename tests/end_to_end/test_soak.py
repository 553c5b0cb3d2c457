"""The soak still soaks: a few turns of it, with few actors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import running
import servers

HOME = Path(__file__).parents[2]


def test_pushers_pullers_killed_pushes_and_sweeps_of_one_store_at_once_lose_nothing_and_leave_nothing_over(tmp_path):
    minio = os.environ.get("S3REG_MINIO") or str(Path.home() / ".cache/s3reg/bin/minio")
    servers.needs(minio)
    size = [
        "--seconds=0",
        "--turns=5",
        "--pushers=2",
        "--pullers=2",
        "--workers=1",
        "--idle=3",
        "--trash=1",
        "--dead=4",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "soak", *size, f"--work={tmp_path}"],
        cwd=HOME,
        env=running.environment(S3REG_MINIO=minio),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    counts = dict(re.findall(r"^\| (.+?) \| ([\d,]+) (?:MiB )?\|$", done.stdout, re.MULTILINE))
    assert {"pushes begun", "pulls", "sweeps", "versions kept"} <= set(counts)
    assert not list(tmp_path.iterdir())
