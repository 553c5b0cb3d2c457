"""The directory store: the port's contract, and what only a directory can meet."""

import io
import re
import stat
import time
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.listing import KeysBelowKeys
from contracts.object_store import ObjectStoreContract
from contracts.promises import ROUNDS, at_once
from s3reg.errors import ChecksumMismatch, LinkRefused, PreconditionFailed, S3regError
from s3reg.store import links, paths
from s3reg.store.files import FilesStore

SECRET = b"a secret of the test, 32 bytes.."


def opener_of(store):
    """What `api/objects.py` does with a link, without the HTTP around it."""

    def opener(method, url, headers, body):
        parts = urlsplit(url)
        assert parts.path.startswith(links.PREFIX)
        key, query = unquote(parts.path.removeprefix(links.PREFIX)), dict(parse_qsl(parts.query))
        try:
            grant = store.open_link(method, key, query, time.time())
            if method == "PUT":
                store.receive(grant.key, io.BytesIO(body), size=grant.size, sha256=grant.sha256)
                return 201, {}, b""
            stat, file = store.read_object(grant.key)
            with file:
                return ranged(stat.size, file, headers.get("Range"))
        except S3regError as e:
            return e.kind.status, {}, str(e).encode()

    return opener


def ranged(size, file, asked):
    if asked is None:
        return 200, {}, file.read()
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start = int(first) if first else size - int(last)
    end = min(int(last), size - 1) if first and last else size - 1
    file.seek(start)
    return 206, {"Content-Range": f"bytes {start}-{end}/{size}"}, file.read(end - start + 1)


class TestFilesStore(ObjectStoreContract, KeysBelowKeys):
    keeps_checksums = False

    @pytest.fixture
    def store(self, tmp_path):
        return FilesStore(tmp_path / "store", secret=SECRET)

    @pytest.fixture
    def second(self, store, tmp_path):
        return FilesStore(tmp_path / "store", secret=SECRET)

    @pytest.fixture
    def opener(self, store):
        return opener_of(store)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(root):
    return FilesStore(root, secret=SECRET)


def test_it_makes_its_directory_for_its_own_eyes_only(store, root):
    store.put("auth/signing.json", b"secret")
    made = [root, *root.rglob("*")]
    assert len(made) > 5
    assert [path for path in made if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_a_directory_may_be_moved(root, tmp_path):
    store = FilesStore(root)
    etag = store.put("heads/a", b"1")
    root.rename(tmp_path / "elsewhere")
    moved = FilesStore(tmp_path / "elsewhere")
    assert moved.stat("heads/a").etag == etag
    assert moved.made_as == store.made_as
    assert moved.location != store.location


def test_what_is_not_ours_is_no_object(store, root):
    store.put("heads/a", b"1")
    (root / ".DS_Store").write_bytes(b"x")
    (root / "heads.d" / ".DS_Store").write_bytes(b"x")
    (root / "lost+found").mkdir()
    (root / "Heads.d").mkdir(exist_ok=True)
    (root / "Heads.d" / "x").write_bytes(b"x")
    for name in ("Big", "a%2f", "a%%zz%", "%41", "%%ab%", "a b", "x" * 129, "%2", "%", ".d"):
        (root / "heads.d" / name).write_bytes(b"x")
    (root / "file.d").write_bytes(b"x")
    assert [item.key for item in store.list("")] == ["heads/a"]


def test_no_prefix_climbs_out_of_the_directory(store, root):
    store.put("a/b", b"1")
    (root.parent / "outside").write_bytes(b"x")
    for prefix in ("../", "a/../", "/", "a//", ".tmp/", ".locks/", "./", "\0/", "\ud800/", "a/\n/", "ä/"):
        assert list(store.list(prefix)) == [], prefix


def test_empty_directories_go_with_their_last_object(store, root):
    store.put("packs/main/s/a", b"1")
    store.put("packs/main/s/b", b"1")
    store.delete(["packs/main/s/a"])
    assert (root / "packs.d/main.d/s.d").is_dir()
    store.delete(["packs/main/s/b"])
    assert sorted(path.name for path in root.iterdir()) == [".locks", ".tmp"]


def test_puts_go_well_while_others_empty_the_directory(store, root):
    def act(number):
        for _ in range(ROUNDS):
            store.put(f"packs/main/s/{number}", b"1")
            assert store.get(f"packs/main/s/{number}").data == b"1"
            store.delete([f"packs/main/s/{number}"])

    at_once(act)
    assert sorted(path.name for path in root.iterdir()) == [".locks", ".tmp"]


def test_an_open_object_goes_on_when_it_is_replaced_or_deleted(store):
    store.put("a", b"old bytes")
    found, file = store.read_object("a")
    with file:
        store.put("a", b"new")
        assert file.read(4) == b"old "
        store.delete(["a"])
        assert file.read() == b"bytes"
    assert found.size == 9


class Body(io.BytesIO):
    """A request's body: it gives little at once, and may break off."""

    def __init__(self, data, breaks=False):
        super().__init__(data)
        self.breaks = breaks

    def read(self, size=-1, /):
        piece = super().read(min(size, 7))
        if self.breaks and not piece:
            raise ConnectionResetError
        return piece


HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_an_upload_is_taken_in_pieces_and_is_durable(store, root):
    store.receive("packs/a", Body(b"hello"), size=5, sha256=HELLO)
    assert FilesStore(root).get("packs/a").data == b"hello"


@pytest.mark.parametrize("data", [b"", b"hell", b"hello!", b"hello" * 50, b"jello"])
def test_an_upload_of_other_bytes_is_refused_and_leaves_nothing(store, root, data):
    with pytest.raises(ChecksumMismatch):
        store.receive("packs/a", Body(data), size=5, sha256=HELLO)
    assert list(store.list("")) == []
    assert list((root / ".tmp").iterdir()) == []


def test_an_upload_that_is_too_long_is_not_read_any_further(store):
    body = Body(b"hello" * 1000)
    with pytest.raises(ChecksumMismatch, match="more than 5 bytes"):
        store.receive("packs/a", body, size=5, sha256=HELLO)
    assert body.tell() < 20
    with pytest.raises(ChecksumMismatch, match="4 bytes instead of 5"):
        store.receive("packs/a", Body(b"hell"), size=5, sha256=HELLO)


def test_an_upload_that_breaks_off_leaves_nothing_and_is_not_the_stores_failure(store, root):
    with pytest.raises(ConnectionResetError):
        store.receive("packs/a", Body(b"hel", breaks=True), size=5, sha256=HELLO)
    assert list(store.list("")) == []
    assert list((root / ".tmp").iterdir()) == []


def test_an_upload_to_a_taken_key_is_read_to_its_end_and_refused(store):
    store.put("packs/a", b"old")
    body = Body(b"hello")
    with pytest.raises(PreconditionFailed):
        store.receive("packs/a", body, size=5, sha256=HELLO)
    assert body.tell() == 5
    assert store.get("packs/a").data == b"old"


def test_links_need_a_secret_and_do_not_pass_under_another(root):
    store = FilesStore(root)
    with pytest.raises(S3regError):
        store.sign_get("a", seconds=60)
    store.sign_with(SECRET)
    query = dict(parse_qsl(urlsplit(store.sign_get("a", seconds=60).url).query))
    assert store.open_link("GET", "a", query, time.time()) == links.Grant("a")
    store.sign_with(SECRET[::-1])
    with pytest.raises(LinkRefused):
        store.open_link("GET", "a", query, time.time())


def test_a_link_is_good_until_the_second_it_names(store):
    link = store.sign_put("a", size=5, sha256=HELLO, seconds=60)
    query = dict(parse_qsl(urlsplit(link.url).query))
    assert store.open_link("PUT", "a", query, link.expires - 0.001) == links.Grant("a", 5, HELLO)
    with pytest.raises(LinkRefused, match="expired"):
        store.open_link("PUT", "a", query, link.expires)


@pytest.mark.parametrize(
    "change",
    [
        {"size": "6"}, {"size": "05"}, {"size": "x"}, {"sha256": "0" * 64}, {"sha256": ""}, {"expires": "9" * 5000},
        {"expires": ""}, {"signature": ""}, {"signature": "ä\ud800"}, {"more": "1"}, {"size": None}, {"signature": None},
    ],
)  # fmt: skip
def test_a_link_with_any_other_field_is_refused(store, change):
    link = store.sign_put("a", size=5, sha256=HELLO, seconds=60)
    query = dict(parse_qsl(urlsplit(link.url).query)) | change
    query = {name: value for name, value in query.items() if value is not None}
    with pytest.raises(LinkRefused) as refused:
        store.open_link("PUT", "a", query, time.time())
    assert "signature=" not in str(refused.value)
    with pytest.raises(LinkRefused):
        store.open_link("GET", "../a", query, time.time())


COMPONENT = st.from_regex(re.compile(r"[A-Za-z0-9._@=+~-]{1,128}"), fullmatch=True).filter(
    lambda c: c not in {".", ".."}
)
SHORT = st.text("aAbBdD.2e64-", min_size=1, max_size=4).filter(lambda c: c not in {".", ".."})
PARTS = st.lists(COMPONENT | SHORT, min_size=1, max_size=3)


@given(PARTS)
def test_a_key_comes_back_from_its_path(parts):
    *folders, name = paths.of_key("/".join(parts)).split("/")
    assert [paths.name_of(entry) for entry in (*folders, name)] == [*(f"{part}/" for part in parts[:-1]), parts[-1]]
    assert all(len(entry) <= 255 and not entry.startswith(".") for entry in (*folders, name))
    assert paths.of_folder("/".join([*parts[:-1], ""])) == "".join(f"{folder}/" for folder in folders)


@given(PARTS, PARTS)
def test_two_keys_are_two_paths_even_where_case_is_ignored(one, other):
    def names(parts):
        entries = paths.of_key("/".join(parts)).casefold().split("/")
        return {"/".join(entries[: depth + 1]) for depth in range(len(entries))}

    shared = names(one) & names(other)
    common = 0
    while common < min(len(one), len(other)) - 1 and one[common] == other[common]:
        common += 1
    if one != other:
        assert len(shared) == common


@given(st.text("aAbd.%264e", min_size=1, max_size=6))
def test_a_directory_entry_is_a_name_only_if_it_is_that_names_spelling(entry):
    name = paths.name_of(entry)
    if name.endswith("/"):
        assert paths.of_folder(name) == entry + "/"
    elif name:
        assert paths.of_key(name) == entry
