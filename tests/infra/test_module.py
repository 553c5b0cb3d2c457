"""What the Terraform module says of the registry is so: its commands, its settings, its log; and what it makes has names."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import module_tables
import running
from s3reg import settings
from s3reg.api import create_app
from s3reg.cli.main import run
from s3reg.settings import Settings

MODULE = module_tables.TERRAFORM
PROCFILE = dict(
    line.split(": ", 1) for line in (Path(__file__).parents[2] / "Procfile").read_text().splitlines() if line
)
# Of AWS's resources that the module makes, those that take no tags.
UNTAGGED = {
    "aws_acm_certificate_validation",
    "aws_appautoscaling_policy",
    "aws_cloudwatch_log_metric_filter",
    "aws_ecs_cluster_capacity_providers",
    "aws_iam_role_policy",
    "aws_kms_alias",
    "aws_route",
    "aws_route53_record",
    "aws_route_table_association",
    "aws_s3_bucket_lifecycle_configuration",
    "aws_s3_bucket_ownership_controls",
    "aws_s3_bucket_policy",
    "aws_s3_bucket_public_access_block",
    "aws_s3_bucket_replication_configuration",
    "aws_s3_bucket_server_side_encryption_configuration",
    "aws_s3_bucket_versioning",
    "aws_scheduler_schedule",
    "aws_secretsmanager_secret_version",
}


def untagged(folder):
    """The resources that could have the tags that were asked for, and a name, and have not."""
    for block in module_tables.read(folder)["resource"]:
        for kind, made in block.items():
            for name, inside in made.items():
                kind_, name_ = module_tables.plain(kind), module_tables.plain(name)
                tags = str(inside.get("tags", ""))
                if kind_ not in UNTAGGED and not tags.startswith("${merge(var.tags, {Name = "):
                    yield f"{kind_}.{name_}"


@pytest.mark.parametrize("readme", module_tables.READMES, ids=lambda path: path.parent.name)
def test_a_module_s_readme_has_all_its_variables_and_outputs(readme):
    assert readme.read_text() == module_tables.text(readme), "run make reference"


def test_whatever_takes_tags_has_a_name_and_the_tags_that_were_asked_for():
    assert not list(untagged(MODULE))


def test_a_resource_without_tags_is_found(tmp_path):
    text = (MODULE / "balancer.tf").read_text()
    (tmp_path / "balancer.tf").write_text(
        text.replace('  tags = merge(var.tags, { Name = "${var.name}-to-https" })\n', "")
    )
    assert list(untagged(tmp_path)) == ["aws_lb_listener.http"]


def test_the_module_s_settings_are_those_of_the_registry():
    # In a map of an environment; elsewhere they are only spoken of.
    said = set(re.findall(r"^\s+\{?\s*(S3REG_\w+)\s*=", (MODULE / "service.tf").read_text(), re.MULTILINE))
    said |= set(re.findall(r'"(S3REG_\w+)"', "".join(path.read_text() for path in MODULE.glob("*.tf"))))
    said |= set(re.findall(r"\{ (S3REG_\w+) =", "".join(path.read_text() for path in MODULE.glob("**/*.tf*"))))
    assert {"S3REG_STORE", "S3REG_METRICS_LISTEN", "S3REG_TRASH_SECONDS", "S3REG_LOG_LEVEL"} <= said
    assert said <= {row.variable for row in settings.table()}


def test_tasks_run_what_the_procfile_says():
    commands = {name: line.split() for name, line in PROCFILE.items()}
    assert {program for program, *_ in commands.values()} == {"s3reg"}
    text = "".join(path.read_text() for path in MODULE.glob("*.tf"))
    web, gc = re.findall(r"(?m)^\s+command\s+= (\[\"[a-z]+\"\])$", text)
    assert json.loads(web) == commands["web"][1:]
    assert json.loads(gc) == commands["gc"][1:]
    (release,) = re.findall(r'\\"command\\":(\[.*?\])', text)
    assert json.loads(release.replace("\\", "")) == commands["release"][1:]


def environment_of_the_sweep():
    """What the module tells the sweep's task, of its log."""
    text = (MODULE / "service.tf").read_text()
    (level,) = re.findall(r'sweep_environment = merge\(\{ S3REG_LOG_LEVEL = "(\w+)" \}', text)
    (form,) = re.findall(r'S3REG_LOG_FORMAT\s+= "(\w+)"', text)
    return {"S3REG_LOG_LEVEL": level, "S3REG_LOG_FORMAT": form}


@pytest.mark.parametrize(("options", "counts"), [((), 1), (("--dry-run",), 0)], ids=["a sweep", "a trial"])
def test_the_alarm_of_an_overdue_sweep_counts_sweeps(tmp_path, monkeypatch, capsys, options, counts):
    (pattern,) = re.findall(r'pattern\s+= "(.+)"', (MODULE / "alarms.tf").read_text())
    assert pattern.replace('\\"', '"') == '{ ($.event = "swept") && ($.dry_run IS FALSE) }'
    create_app(Settings(store=str(tmp_path))).extensions["s3reg"].registry()
    for name, value in environment_of_the_sweep().items():
        monkeypatch.setenv(name, value)
    assert run(["gc", str(tmp_path), *options]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert sum(line["event"] == "swept" and line["dry_run"] is False for line in lines) == counts, lines


@pytest.mark.parametrize("ca", ["", "-----BEGIN CERTIFICATE-----"], ids=["a public authority", "an own authority"])
def test_a_mac_s_user_data_adds_the_registry_and_leaves_its_login_alone(tmp_path, monkeypatch, ca):
    values = {"registry_url": "https://registry.example.com", "remote": "office", "s3reg": "s3reg", "ca": ca}
    values |= {"user": "ec2-user", "python": "python3"}
    text = (MODULE / "modules/mac-node/user-data.sh.tftpl").read_text()
    text = re.sub(r"(?s)%\{ if ca != \"\" ~?\}\n?(.*?)%\{ endif ~?\}\n?", r"\1" if ca else "", text)
    script = tmp_path / "user-data.sh"
    script.write_text(re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], text))
    subprocess.run(["bash", "-n", script], check=True)
    monkeypatch.setenv("S3REG_REMOTES", str(tmp_path / "remotes.yaml"))
    (tmp_path / "ca.pem").touch()
    (tmp_path / "key.pem").touch()
    program = shlex.join(running.PROGRAM)
    adding = "\n".join(script.read_text().splitlines()[-2:]).replace("$home", str(tmp_path))
    adding = adding.replace("sudo -H -u 'ec2-user' /usr/local/bin/s3reg", program)
    subprocess.run(["bash", "-euo", "pipefail", "-c", adding], check=True)
    assert run(["set", "--force", "office", "--api-key-id", "mac", "--api-key", str(tmp_path / "key.pem")]) == 0
    kept = (tmp_path / "remotes.yaml").read_text()
    subprocess.run(["bash", "-euo", "pipefail", "-c", adding], check=True)
    assert (tmp_path / "remotes.yaml").read_text() == kept
    assert "https://registry.example.com" in kept
    assert ("ca.pem" in kept) == bool(ca)


def test_what_a_mac_installs_is_said_by_whoever_serves_it():
    """Nothing is published under the name s3reg: whoever takes it would have a program of theirs run on every Mac."""
    mac = dict(module_tables.named(module_tables.read(MODULE / "modules/mac-node")["variable"]))
    assert "default" not in mac["s3reg"]
    complete = dict(module_tables.named(module_tables.read(MODULE / "examples/complete")["variable"]))
    assert "default" not in complete["wheel_url"]
    said = [MODULE / "examples/complete/example.tfvars", MODULE / "modules/mac-node/README.md"]
    for path in said:
        (given,) = re.findall(r'(?m)^(?:wheel_url|\s+s3reg)\s+= "(.*?)"', path.read_text())
        assert re.fullmatch(r"https://\S+\.whl", given), path
