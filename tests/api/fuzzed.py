"""What the fuzz tests share: a registry that begins the same for every example, and requests as bad clients make them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hypothesis import strategies as st

from kept import Kept
from push_calls import Push
from s3reg.api import create_app
from s3reg.model import format as fmt
from s3reg.settings import Settings
from s3reg.store.files import FilesStore

if TYPE_CHECKING:
    from pathlib import Path

    from werkzeug.test import TestResponse

FIRST, SECOND = "11111111-aaaa-4bbb-8ccc-000000000001", "22222222-aaaa-4bbb-8ccc-000000000002"
TAGS = {FIRST: ["v1", "a+b", "1", "os:deps/6 cores"], SECOND: ["latest"]}
NAMES = {FIRST: "13.1-base", SECOND: "11.6"}


class Place(Kept):
    """A registry over a directory: two templates of a few versions."""

    def __init__(self, folder: Path) -> None:
        self.store = FilesStore(folder)
        self.http = create_app(Settings(store=str(folder)), self.store).test_client()
        for template, tags in TAGS.items():
            for tag in tags:
                Push([self.http], template=template, name=NAMES[template], tag=tag, layers=[]).run()
        super().__init__(self.store)

    def tags(self) -> dict[str, list[str]]:
        """The tags of every template that is there, oldest first, as its record has them."""
        heads = [fmt.read_head(self.store.get(fmt.head_key(name)).data, name) for name in TAGS]
        return {head.id: [entry.tag for entry in head.versions] for head in heads if not head.deleted}

    def names(self) -> dict[str, str]:
        """Their names."""
        return {name: fmt.read_head(self.store.get(fmt.head_key(name)).data, name).name for name in TAGS}

    def ask(self, method: str, path: str, query: list[tuple[str, str]], body: bytes | None) -> TestResponse:
        """A request with exactly this path and query, each key and value escaped, and this body."""
        escaped = "&".join(f"{_escaped(key)}={_escaped(value)}" for key, value in query)
        exactly = {"PATH_INFO": path}  # else two slashes at its beginning are taken for those before a host
        return self.http.open(method=method, query_string=escaped, data=body, environ_overrides=exactly)


def _escaped(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def body(value: Any) -> bytes:
    """JSON as `curl -d` sends it; what JSON does not have, such as NaN, as other programs write it."""
    return json.dumps(value).encode()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""Any JSON value, and a few that are none."""

known = st.sampled_from(
    [
        *(word for template in TAGS for word in (template, template.upper(), NAMES[template], *TAGS[template])),
        *(
            "0",
            "1",
            "3",
            "99",
            "-1",
            "007",
            "1e0",
            "",
            " ",
            "arm64",
            "amd64",
            "v9",
            "../x",
            "x" * 300,
            "0" * 32,
            "true",
        ),
    ]
)
"""Words that mean something here, or nearly do."""

words = known | st.text(st.characters(), max_size=12)
"""Any text, lone surrogates included."""
