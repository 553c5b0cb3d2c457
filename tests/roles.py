"""What infra/terraform/permissions.json gives, as policies, and processes on MinIO that may do no more than that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

if TYPE_CHECKING:
    from servers import S3Server

PERMISSIONS = json.loads((Path(__file__).parents[1] / "infra/terraform/permissions.json").read_text())


def policy(bucket: str, role: str) -> dict[str, Any]:
    """As the module makes it."""
    statements = [{"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [f"arn:aws:s3:::{bucket}"]}]
    for action, keys in PERMISSIONS[role].items():
        resources = [f"arn:aws:s3:::{bucket}/{one}" for one in keys]
        statements.append({"Effect": "Allow", "Action": [action], "Resource": resources})
    return {"Version": "2012-10-17", "Statement": statements}


def credentials(server: S3Server, told: dict[str, Any]) -> dict[str, str]:
    """The environment of a process that may do what the policy says, and no more."""
    sts = boto3.session.Session().client(
        "sts",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        verify=None if server.ca is None else str(server.ca),
    )
    role = {"RoleArn": "arn:aws:iam::1:role/any", "RoleSessionName": "any"}
    got = sts.assume_role(**role, Policy=json.dumps(told))["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": got["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": got["SecretAccessKey"],
        "AWS_SESSION_TOKEN": got["SessionToken"],
        "AWS_REGION": server.region,
    }
