"""The programs and files of examples/ are what they say: what pages call them with, what they call, what they name."""

import re
import shlex
import subprocess
from pathlib import Path

import hcl2
import pytest
import yaml

import examples
import test_mentions
from s3reg.cli import environment

HOME = Path(__file__).parents[1]
BAKE = HOME / "examples" / "bake"
TYPED = [
    (page.name, line.partition(" > ")[0])
    for page in sorted(HOME.glob("docs/**/*.md"))
    for line in re.findall(r"^ *(?:\$ )?(python3 examples/.*)$", page.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize(("page", "line"), TYPED, ids=[f"{page}-{number}" for number, (page, _) in enumerate(TYPED)])
def test_a_program_takes_what_a_page_tells_to_type(page, line):
    _, path, *words = shlex.split(line)
    examples.module(Path(path).stem).arguments(words)


def test_pages_tell_to_type_both_programs():
    assert {re.search(r"\w+\.py", line)[0] for _, line in TYPED} == {"migrate.py", "sizing.py"}


@pytest.mark.parametrize("path", sorted(BAKE.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_one_for_bash(path):
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", path], check=True)
    # bash 3.2, which macOS has, knows none of these.
    assert not re.findall(r"declare -A|mapfile|readarray|\$\{\w+[,^]{1,2}\}|&>>|\|&", path.read_text())


def test_packer_is_given_the_variables_that_it_takes():
    template = hcl2.loads((BAKE / "macos-ci.pkr.hcl").read_text())
    variables = {name.strip('"') for block in template["variable"] for name in block}
    given = set(re.findall(r'-var "(\w+)=', (BAKE / "bake.sh").read_text()))
    text = (BAKE / "macos-ci.pkr.hcl").read_text()
    assert given <= variables == set(re.findall(r"var\.(\w+)", text))
    script = re.search(r"\$\{path\.root\}/([\w.]+)", text)[1]
    assert (BAKE / script).exists()
    environment_of_vm = set(re.findall(r'"(\w+)=\$\{var', text))
    assert environment_of_vm <= set(re.findall(r"\$(\w+)", (BAKE / script).read_text()))


def test_the_pipeline_hangs_together():
    pipeline = yaml.safe_load((BAKE / "pipeline.yml").read_text())
    resources = {one["name"] for one in pipeline["resources"]}
    jobs = {one["name"] for one in pipeline["jobs"]}
    of_nodes = {name for variable in environment.VARIABLES for name in variable.names}
    of_script = set(re.findall(r"\$\{(\w+):-", (BAKE / "bake.sh").read_text()))
    for job in pipeline["jobs"]:
        steps = [inner for step in job["plan"] for inner in step.get("in_parallel", [step])]
        assert {step["get"] for step in steps if "get" in step} <= resources
        assert {name for step in steps for name in step.get("passed", ())} <= jobs
        for task in (step["config"] for step in steps if "task" in step):
            assert task["platform"] == "darwin"
            assert set(task["params"]) <= of_nodes | of_script
            inputs = {one["name"] for one in task.get("inputs", ())}
            run = task["run"]
            if run["path"] == "s3reg":
                test_mentions.mentioned(shlex.join(run["args"]))
            else:
                where, _, path = run["path"].partition("/")
                assert where in inputs
                assert (HOME / path).exists()
    text = (BAKE / "pipeline.yml").read_text()
    told = (BAKE / "README.md").read_text()
    for secret in set(re.findall(r"\(\((.*?)\)\)", text)) - {"registry", "git.private_key"}:
        assert f"`{secret}`" in told
