"""What a node takes from its environment, once: the options, `s3reg --help` and the reference are printed from it.

What the Anka CLI takes as `ANKA_<KEY>` and means something here is `S3REG_<KEY>` too, which wins. What its OCI mode takes
(`ANKA_REGISTRY_USER`, `ANKA_REGISTRY_AUTH_TOKEN`) and `ANKA_DELETE_LOGS`, for VMs' logs, concern nothing that s3reg has.
A registry's own variables are the rows of `settings.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from s3reg.client.remotes import (
    ADDRESS_VARIABLES,
    API_KEY_ID_VARIABLES,
    API_KEY_VARIABLES,
    CERTIFICATE_VARIABLES,
    FILE_VARIABLE,
    KEY_VARIABLES,
    ROOT_TOKEN_VARIABLES,
)


@dataclass(frozen=True, slots=True)
class Variable:
    """One thing that the environment may say; of its names, the first that is set and not empty wins."""

    names: tuple[str, ...]
    meaning: str


REGISTRY = Variable(ADDRESS_VARIABLES, "The registry's address, when no option names one.")
API_KEY_ID = Variable(API_KEY_ID_VARIABLES, "As --api-key-id; not remembered by add and set.")
API_KEY = Variable(API_KEY_VARIABLES, "As --api-key; not remembered by add and set.")
ROOT_TOKEN = Variable(
    ROOT_TOKEN_VARIABLES, "The root token itself, unless there is an API key; not remembered by add and set."
)
CERTIFICATE = Variable(CERTIFICATE_VARIABLES, "As --cert; not remembered by add and set.")
KEY = Variable(KEY_VARIABLES, "As --key; not remembered by add and set.")
CA_BUNDLE = Variable(("S3REG_CA_BUNDLE", "ANKA_CA_BUNDLE"), "As --cacert.")
REMOTES = Variable((FILE_VARIABLE,), "The file of registries; default: ~/.config/s3reg/remotes.yaml.")
LIBRARY = Variable(("S3REG_LIBRARY",), "As --library.")
MACHINE_READABLE = Variable(("S3REG_MACHINE_READABLE", "ANKA_MACHINE_READABLE"), "1: as --machine-readable.")
DEBUG = Variable(("S3REG_DEBUG", "ANKA_DEBUG"), "1: as --debug.")
LOG_LEVEL = Variable(("S3REG_LOG_LEVEL", "ANKA_LOG_LEVEL"), "As --log-level.")
JOBS = Variable(("S3REG_JOBS", "ANKA_PULLER_THREADS"), "As --jobs of push and pull.")
LIMIT_RATE = Variable(("S3REG_LIMIT_RATE",), "As --limit-rate of push and pull.")
FAILBACK = Variable(("S3REG_PULL_FAILBACK", "ANKA_PULL_FAILBACK"), "1: as --failback of pull.")

VARIABLES = (
    REGISTRY,
    API_KEY_ID,
    API_KEY,
    ROOT_TOKEN,
    CERTIFICATE,
    KEY,
    CA_BUNDLE,
    REMOTES,
    LIBRARY,
    MACHINE_READABLE,
    DEBUG,
    LOG_LEVEL,
    JOBS,
    LIMIT_RATE,
    FAILBACK,
)
