"""Whether two names of a store name one bucket: as far as the names alone can tell, and by a try."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from s3reg.errors import ObjectNotFound
from s3reg.store.check import PREFIX

if TYPE_CHECKING:
    from s3reg.store import ObjectStore

_AWS = re.compile(r"(.+\.)?s3(-[a-z0-9-]+)?(\.dualstack)?(\.[a-z0-9-]+)?(\.vpce)?\.amazonaws\.com")
"""S3's own endpoints, of which there are many kinds ("Amazon S3 endpoints and quotas", AWS General Reference). A machine
or a load balancer of AWS has a name below amazonaws.com too, and may be somebody's MinIO."""
_GOVERNMENT = "-gov-"
_PORTS = {"http": 80, "https": 443}


def same_place(one: str, other: str) -> bool:
    """Whether two `made_as` name the same bucket, or prefix of it, spelt differently.

    A bucket's name is unique in all regions of AWS ("Buckets overview", Amazon S3 User Guide), so it counts there and the
    endpoint does not: regional, dual-stack, of a VPC. GovCloud has names of its own, and China another domain. Elsewhere it
    is one server whether it speaks TLS or not, as long as host and port are the same.
    """
    return _place(one) == _place(other)


def shows_there(here: ObjectStore, there: ObjectStore) -> bool:
    """Whether what is written to `here` is at once in `there`: if not, these are two. Raises what either raises.

    If so they may be two still, of which one asks the other for what it lacks, as replicating MinIO servers do.
    """
    key = f"{PREFIX}same-{uuid.uuid4().hex}"
    here.put(key, key.encode())
    try:
        return there.get(key).data == key.encode()
    except ObjectNotFound:
        return False
    finally:
        here.delete([key])


def _place(name: str) -> str:
    bucket, _, endpoint = name.partition(" at ")
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return name
    if host is None:
        return name
    if _AWS.fullmatch(host) and _GOVERNMENT not in host:
        return bucket
    return f"{bucket} at {host}:{port}{parts.path}"
