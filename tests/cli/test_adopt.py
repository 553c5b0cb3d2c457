"""adopt from the command line: a copy is told what it holds, and becomes a store of its own or stays what it is."""

import pytest

from registry.material import Pusher
from s3reg.model import format as fmt
from s3reg.registry import Registry
from s3reg.store.files import FilesStore


@pytest.fixture
def store(tmp_path):
    return FilesStore(tmp_path / "store", secret=bytes(32))


@pytest.fixture
def copy(s3reg, registry, store, tmp_path):
    """The directory of a store that was made elsewhere: `base`, with v1 to v4."""
    s3reg("add", "office", registry)
    node = Pusher(Registry(store), store)
    for number in range(1, 5):
        node.push(tag=f"v{number}", words=[f"v{number}"], name="base")
    file = tmp_path / "store" / fmt.FORMAT_KEY
    file.write_text(file.read_text().replace('"directory"', '"s3://original"'))
    return tmp_path / "store"


def test_a_copy_can_be_written_once_it_is_adopted(s3reg, copy, disk):
    assert s3reg("import", "mine", "--disk", disk).code == 0
    refused = s3reg("push", "mine", "-t", "v1")
    assert refused.code != 0
    assert "s3reg adopt" in refused.err
    done = s3reg("adopt", copy)
    assert done.code == 0
    assert "is a store of its own now" in done.out
    assert "1 template with 4 versions" in done.err
    assert s3reg("push", "mine", "-t", "v1").code == 0


def test_a_program_reads_what_it_was_and_is(s3reg, copy, store):
    body = s3reg("-j", "adopt", copy).answer["body"]
    assert (body["made_as"], body["templates"], body["versions"], body["damage"]) == ("s3://original", 1, 4, 0)
    assert body["store"] == fmt.read_format(store.get(fmt.FORMAT_KEY).data).store


def test_somebody_at_a_terminal_is_asked(s3reg, copy, store, terminal):
    terminal("n\n")
    done = s3reg("adopt", copy)
    assert (done.code, done.err.endswith("it is a copy as before\n")) == (1, True)
    assert Registry(store).status().copied
    terminal("y\n")
    assert s3reg("adopt", copy).code == 0
    assert not Registry(store).status().copied


def test_one_that_lacks_something_is_refused_unless_it_is_forced(s3reg, copy, store):
    store.delete([next(iter(store.list(fmt.PACKS))).key])
    done = s3reg("adopt", copy)
    assert done.code == 8
    assert "base" in done.err
    assert "--force" in done.err
    assert Registry(store).status().copied
    forced = s3reg("adopt", copy, "--force", "--yes")
    assert forced.code == 0
    assert "s3reg fsck names" in forced.out
    assert not Registry(store).status().copied


def test_what_is_no_copy_or_no_store_is_refused(s3reg, store, tmp_path):
    Registry(store).prepare()
    done = s3reg("adopt", tmp_path / "store")
    assert "is no copy" in done.err
    assert done.code == 18
    assert s3reg("adopt", tmp_path / "library").code == 2
    assert not (tmp_path / "library" / fmt.FORMAT_KEY).exists()
