"""What lies in a store beside what its heads name: `python -m soak.inventory s3://BUCKET ENDPOINT`, as JSON.

By LIST and by the records, and by nothing that a sweep or fsck has: a second opinion.
"""

from __future__ import annotations

import json
import sys

from s3reg.api.wiring import open_store
from s3reg.model import format as fmt
from s3reg.settings import Settings

STANDING = ("format.json", "swept", "heads/", "auth/", "events/", "pulls/")
"""What lies there besides what versions need; that pull marks are of named versions is looked at too."""


def compare(bucket: str, endpoint: str) -> dict[str, list[str]]:
    """Keys that nobody names, and named ones that are not there."""
    store = open_store(Settings(store=bucket, s3_endpoint=endpoint))
    keys = {stat.key for stat in store.list("")}
    named: set[str] = set()
    marks: set[str] = set()
    for key in sorted(key for key in keys if key.startswith(fmt.HEADS)):
        template = fmt.template_of_head_key(key)
        head = fmt.read_head(store.get(key).data, template)
        for entry in (*head.versions, *head.removed):
            named.add(fmt.version_key(template, entry.id))
            marks.add(fmt.pull_key(template, entry.id))
            version = fmt.read_version(store.get(fmt.version_key(template, entry.id)).data, template, entry.id)
            for file in version.files:
                named |= {fmt.pack_key(version.domain, use.pack.sid, use.pack.sha256) for use in file.packs}
                if file.map is not None:
                    named.add(fmt.map_key(version.domain, file.map.sid, file.map.sha256))
    over = {key for key in keys - named if not key.startswith(STANDING)}
    over |= {key for key in keys - marks if key.startswith("pulls/")}
    return {"nobody names": sorted(over), "missing": sorted(named - keys)}


if __name__ == "__main__":
    print(json.dumps(compare(*sys.argv[1:])))
