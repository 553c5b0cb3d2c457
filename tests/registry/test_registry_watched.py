"""Another replica lists before and after every single call that a push makes of the store."""

import pytest

from faults import Wrapped
from registry.material import BASE, OTHER, Pusher
from s3reg.api import create_app
from s3reg.registry import Registry
from s3reg.settings import Settings


class Watched(Wrapped):
    """A store at whose every call `look` is called, before and after it."""

    def __init__(self, store, look):
        super().__init__(store)
        self._look = look

    def _call(self, call, act):
        self._look()
        try:
            return act()
        finally:
            self._look()


@pytest.mark.parametrize("older", [(), ("v1",)], ids=["a new template", "one more version"])
def test_s7_every_list_made_during_a_push_is_whole_and_has_the_old_or_the_new(older, node, store):
    node.push(OTHER, "v1", name="other")
    for tag in older:
        node.push(BASE, tag)
    replica = create_app(Settings(), store).test_client()
    seen = []

    def look():
        lists = [replica.get(path) for path in ("/registry/vm", "/registry/v2/vm", "/transfer/v1/templates")]
        assert [answer.status_code for answer in lists] == [200, 200, 200]
        tags = {row["id"]: [version["tag"] for version in row["versions"]] for row in lists[2].json["templates"]}
        assert tags.pop(OTHER) == ["v1"]
        seen.append(tags.pop(BASE, None))
        assert not tags
        if seen[-1]:
            assert replica.get(f"/registry/v2/vm?id={BASE}").status_code == 200

    Pusher(Registry(Watched(store, look)), store).push(BASE, "v2")

    before, after = [*older] or None, [*older, "v2"]
    change = seen.index(after)
    assert change > 0
    assert seen == [before] * change + [after] * (len(seen) - change)
