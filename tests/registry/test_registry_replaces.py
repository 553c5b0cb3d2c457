"""A push by force that says which version it replaces: that one, or none."""

import pytest

from registry.material import BASE, Pusher, read_head
from s3reg.errors import VersionChanged
from s3reg.registry import Registry


def replacing(node, version, tag="v1", **more):
    opened = node.open(BASE, tag, force=True)
    return node.commit(opened.session, node.files(opened.session, ("new",)), tag, force=True, replaces=version, **more)


def test_the_version_that_has_the_tag_is_replaced_by_its_id(node, store):
    old = node.push().entry
    made = replacing(node, old.id).entry
    assert [entry.id for entry in read_head(store).versions] == [made.id]
    assert [entry.id for entry in read_head(store).removed] == [old.id]


@pytest.mark.parametrize("tag", ["v1", "free"])
def test_another_version_is_not_replaced_nor_a_tag_that_is_free_by_now(node, store, tag):
    node.push()
    before = read_head(store)
    with pytest.raises(VersionChanged):
        replacing(node, "0" * 32, tag)
    assert read_head(store) == before


def test_what_came_between_the_look_and_the_replacing_stays(node, store):
    """The last look is at the head that is replaced."""
    old = node.push().entry
    opened = node.open(BASE, force=True)
    files = node.files(opened.session, ("new",))

    class Between:
        """The store; as the version's record is written, another push is done."""

        def __getattr__(self, name):
            return getattr(store, name)

        def put(self, key, data, **more):
            if key.startswith("versions/"):
                node.push(force=True, words=("between",))
            return store.put(key, data, **more)

    with pytest.raises(VersionChanged):
        Pusher(Registry(Between()), store).commit(opened.session, files, force=True, replaces=old.id)
    assert [entry.id for entry in read_head(store).removed] == [old.id]
