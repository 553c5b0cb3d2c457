"""adopt from the command line: a copy is told what it holds, and becomes a store of its own or stays what it is."""

import pytest

from registry.material import Pusher
from s3reg.errors import StoreCopied
from s3reg.model import format as fmt
from s3reg.registry import Registry
from s3reg.store.files import FilesStore
from s3reg.store.s3 import S3Store


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


# --- The same store by another name ----------------------------------------------------------------------------------


@pytest.fixture
def two_names(minio, bucket):
    """A store in a bucket, made by one name and reached by another: the arguments of both."""
    name = bucket(minio)
    other = minio.endpoint.replace("127.0.0.1", "localhost")
    made, again = (S3Store(name, endpoint=at, region=minio.region) for at in (minio.endpoint, other))
    Registry(made).prepare()
    return made, again, [f"s3://{name}", "--s3-endpoint", other]


def test_the_same_bucket_by_another_name_is_read_only_until_somebody_says_that_it_is_the_same(s3reg, two_names):
    made, again, words = two_names
    with pytest.raises(StoreCopied) as caught:
        Registry(again).prepare()
    assert "--same" in caught.value.next_step
    before = fmt.read_format(made.get(fmt.FORMAT_KEY).data)
    done = s3reg("adopt", *words, "--same", "--yes")
    assert done.code == 0, done.err
    assert "it is the same store" in done.out
    for store in (made, again):
        Registry(store).prepare()
        assert not Registry(store).status().copied
    assert fmt.read_format(made.get(fmt.FORMAT_KEY).data).store == before.store
    assert [stat.key for stat in made.list("check/")] == []
    assert s3reg("adopt", *words, "--same").code == 18


def test_another_bucket_is_never_taken_for_the_same(s3reg, minio, bucket, two_names):
    made, _, _ = two_names
    copied = S3Store(bucket(minio), endpoint=minio.endpoint, region=minio.region)
    copied.put(fmt.FORMAT_KEY, made.get(fmt.FORMAT_KEY).data)
    words = ["adopt", copied.location.partition(" at ")[0], "--s3-endpoint", minio.endpoint]
    done = s3reg(*words, "--same", "--yes")
    assert done.code == 18
    assert "without --same" in done.err.replace("\n", " ")
    assert Registry(copied).status().copied
    assert s3reg(*words, "--yes").code == 0


def test_where_the_old_name_is_gone_somebodys_word_counts(s3reg, two_names, terminal):
    made, again, words = two_names
    raw = made.get(fmt.FORMAT_KEY).data
    made.put(fmt.FORMAT_KEY, raw.replace(made._terms.endpoint.encode(), b"http://127.0.0.1:1"))
    terminal("n\n")
    refused = s3reg("adopt", *words, "--same")
    assert refused.code == 1
    assert "cannot be tried" in refused.err
    terminal("y\n")
    assert s3reg("adopt", *words, "--same").code == 0
    assert not Registry(again).status().copied


def test_an_adopted_copy_is_reached_by_none_of_the_originals_names(s3reg, minio, bucket, two_names):
    made, _, words = two_names
    assert s3reg("adopt", *words, "--same", "--yes").code == 0
    copied = S3Store(bucket(minio), endpoint=minio.endpoint, region=minio.region)
    copied.put(fmt.FORMAT_KEY, made.get(fmt.FORMAT_KEY).data)
    assert Registry(copied).status().copied
    assert s3reg("adopt", copied.location.partition(" at ")[0], "--s3-endpoint", minio.endpoint, "--yes").code == 0
    assert fmt.read_format(copied.get(fmt.FORMAT_KEY).data).also == ()
