"""Rights that go while something is under way."""

import pytest

from access.house import ALL, EVERY_ACTION
from access_kit import Closed
from push_calls import Layer, Push
from s3reg.store.files import FilesStore

AT = "/transfer/v1"
NEW = "99999999-aaaa-4bbb-8ccc-000000000009"
LAYERS = [Layer("b" * 32 + ".ank", b"a disk " * 1000)]


class Meanwhile(FilesStore):
    """Does something once, just before an object with this prefix is written."""

    prefix = "nothing"

    def put(self, key, data, *, only_if=None):
        if key.startswith(self.prefix):
            self.prefix = "nothing"
            self.act()
        return super().put(key, data, only_if=only_if)


@pytest.mark.parametrize("taken", ["group", "key", "right"])
@pytest.mark.parametrize("prefix", ["versions/", "heads/"])
def test_a_right_that_goes_while_a_push_commits_leaves_it_done_or_not_done_and_permits_no_more(
    tmp_path, clock, taken, prefix
):
    store = Meanwhile(tmp_path / "store")
    closed = Closed(tmp_path / "store", store=store, authorization=True, clock=clock)
    group = closed.group("pushers", *ALL, templates={}, domains={"main": EVERY_ACTION})
    client = closed.client(closed.key("ci", [group]))
    other = Closed(tmp_path / "store", token=closed.token, authorization=True, clock=clock)

    def take():
        match taken:
            case "group":
                other.gate.groups.delete(group)
            case "key":
                other.gate.keys.delete("ci")
            case "right":
                other.group(group, *ALL, templates={}, domains={"main": ["list"]})

    push = Push([client], template=NEW, layers=LAYERS)
    push.open()
    files = push.files()
    store.act, store.prefix = take, prefix
    answer = client.post(f"{AT}/sessions/{push.sid}/commit", json={"tag": "v1", "name": push.name, "files": files})
    assert answer.status_code in {200, 401, 403}
    root = closed.client(closed.root)
    listed = root.get(f"{AT}/templates").json["templates"]
    assert len(listed) == (answer.status_code == 200)
    if listed:
        assert root.get(f"{AT}/plan?ref={NEW}").status_code == 200
    clock.ahead += 2.1
    assert client.post(f"{AT}/sessions", json={"template": NEW, "name": "x", "tag": "v2"}).status_code in {401, 403}
    again = client.post(f"{AT}/sessions/{push.sid}/commit", json={"tag": "v1", "name": push.name, "files": files})
    assert again.status_code in {401, 403, 410}


def test_a_session_goes_on_for_its_owner_when_the_right_comes_back(tmp_path, clock):
    closed = Closed(tmp_path / "store", authorization=True, clock=clock)
    closed.group("pushers", *ALL, templates={}, domains={"main": EVERY_ACTION})
    headers = closed.key("ci", ["pushers"])
    push = Push([closed.client(headers)], template=NEW, layers=LAYERS)
    push.open()
    files = push.files()
    closed.group("pushers", "list_vms", templates={})
    clock.ahead += 2.1
    push.call("POST", f"/sessions/{push.sid}/commit", {"tag": "v1", "name": "x", "files": files}, 403)
    push.call("POST", f"/sessions/{push.sid}/uploads", {"objects": []}, 403)
    closed.group("pushers", *ALL, templates={}, domains={"main": EVERY_ACTION})
    push.commit(files)


def test_another_key_made_under_the_id_of_an_owner_owns_the_session_as_administrators_mean_it(tmp_path, clock):
    """A key's id is who it is: whoever makes it again hands on what its askers had under way."""
    closed = Closed(tmp_path / "store", authorization=True, clock=clock)
    closed.group("pushers", *ALL, templates={}, domains={"main": EVERY_ACTION})
    push = Push([closed.client(closed.key("ci", ["pushers"]))], template=NEW, layers=[])
    push.open()
    closed.gate.keys.delete("ci")
    again = closed.client(closed.key("ci", ["pushers"]))
    assert again.get(f"{AT}/sessions/{push.sid}").status_code == 200
