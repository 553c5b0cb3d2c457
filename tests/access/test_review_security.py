"""What was found by looking for it: small holes that no other attack has a place for."""

import base64
import json
import unicodedata

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import faults
from access_kit import Closed
from push_calls import API, TEMPLATE, Push
from s3reg import wire
from s3reg.errors import StoreUnavailable
from s3reg.model.access import Group
from s3reg.model.format_access import api_key_key
from s3reg.model.identity import Action
from s3reg.store.files import FilesStore
from s3reg.wire.access import GroupsAnswerSchema


class Away(faults.Wrapped):
    """A store that can be away."""

    is_away = False

    def _call(self, call, act):
        if self.is_away:
            raise StoreUnavailable(store="s3://the-bucket", reason="no route to minio.internal:9000")
        return act()


@pytest.fixture
def away(tmp_path):
    store = Away(FilesStore(tmp_path / "store"))
    return store, Closed(tmp_path / "store", store=store)


def changed(closed, key_id, **fields):
    """Put other things into an API key's record, as another release might, or an accident."""
    key = api_key_key(key_id)
    record = json.loads(closed.store.get(key).data)
    closed.store.put(key, json.dumps({**record, **fields}).encode())


MANY = 10_001
"""Templates of a group: more than a message about one had room for."""
ED25519 = (
    ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)


@pytest.mark.parametrize("public", [b"junk", ED25519], ids=["junk", "of another kind"])
def test_a_public_key_that_cannot_be_used_hides_no_other_key_from_who_lists_them(closed, public):
    closed.make("good")
    closed.make("odd")
    changed(closed, "odd", public_key=base64.b64encode(public).decode())
    answer = closed.http.get(f"{API}/keys", headers=closed.root)
    assert answer.status_code == 200, answer.text
    good, odd = answer.json["keys"]
    assert (good["id"], good["damaged"]) == ("good", None)
    assert (odd["id"], odd["fingerprint"]) == ("odd", "")
    assert odd["damaged"]
    assert closed.hand("odd").status_code == 401


def test_a_key_of_a_time_that_no_calendar_has_hides_no_other_key_from_who_lists_them(closed):
    closed.make("good")
    closed.make("odd", ttl=60)
    changed(closed, "odd", created=1 << 50, expires=1 << 50)
    for path in ("/v1/apikey", f"{API}/keys"):
        answer = closed.http.get(path, headers=closed.root)
        assert (answer.status_code, "good" in answer.text) == (200, True), answer.text


@pytest.mark.parametrize("text", ["0" * 5000, "0" * 19 + "1" + "9" * 1000], ids=["zeros", "too many digits"])
@pytest.mark.parametrize("name", ["since", "until"])
def test_a_time_of_thousands_of_digits_is_none(closed, name, text):
    answer = closed.http.get(f"{API}/events", query_string={name: text}, headers=closed.root)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("path", ["/readyz", "/tap/v1/hand", f"{API}/whoami"])
def test_a_stranger_is_not_told_where_the_store_is_that_is_away(away, path):
    store, closed = away
    login = closed.key("ci")
    store.is_away = True
    for headers in ({}, login):
        answer = closed.http.open(
            path, method="POST" if "hand" in path else "GET", json={"id": "other"}, headers=headers
        )
        assert "bucket" not in answer.text
        assert "minio" not in answer.text


def test_who_is_known_is_told_what_is_wrong_with_the_store(away):
    store, closed = away
    closed.http.get("/registry/vm", headers=closed.root)
    store.is_away = True
    assert "minio.internal" in closed.http.get("/registry/vm", headers=closed.root).text


def test_a_group_of_very_many_templates_is_read_by_our_client(closed):
    ids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(MANY)]
    closed.gate.groups.write(Group("ci", templates=dict.fromkeys(ids, frozenset({Action.LIST}))), gen=None)
    answer = closed.http.get(f"{API}/groups", headers=closed.root)
    (told,) = wire.read(GroupsAnswerSchema, answer.json).groups
    assert len(told.templates) == MANY


def test_a_login_under_another_spelling_of_its_id_is_told_under_the_one_that_is_kept(closed, caplog):
    kept, typed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    closed.make(kept)
    secret = closed.secret(typed)
    assert closed.shake(typed, secret).status_code == 200
    said = [record.fields for record in caplog.records if getattr(record, "event", "") == "audit"]
    assert [one["by"] for one in said if one["deed"] == "login"] == [f"key:{kept}"]


class Breaking(faults.Wrapped):
    """A store that meets a defect of ours at the second look at a head."""

    looks = -1

    def _call(self, call, act):
        if self.looks >= 0 and call.is_on("get", "heads/"):
            self.looks += 1
            if self.looks > 1:
                raise RuntimeError("a defect")
        return act()


def test_a_defect_that_is_met_by_rights_as_they_are_now_is_told_as_one(tmp_path):
    store = Breaking(FilesStore(tmp_path / "store"))
    strict = Closed(tmp_path / "store", store=store, authorization=True)
    other = strict.replica()
    Push([other.client(other.root)]).run()
    strict.group("ci", "list_vms", templates={})
    mine = strict.key("ci", ["ci"])
    assert strict.http.get("/registry/vm", headers=mine).json["body"] == []
    other.group("ci", "list_vms")
    store.looks = 0
    answer = strict.http.get(f"{API}/template?ref={TEMPLATE}", headers=mine)
    assert store.looks == 2
    assert (answer.status_code, answer.json["error"]["code"]) == (500, "internal")


@pytest.mark.parametrize("more", [{}, {"template": []}], ids=["left out", "misspelt"])
def test_a_group_whose_templates_are_not_told_is_not_given_all_of_them(closed, more):
    closed.group("ci", "list_vms", templates={TEMPLATE: ["list"]})
    gen = closed.gate.groups.find("ci").gen
    entry = {"name": "ci", "permissions": ["list_vms"], "gen": gen, **more}
    answer = closed.http.post(f"{API}/groups", json=entry, headers=closed.root)
    assert (answer.status_code, closed.gate.groups.find("ci").templates) != (200, None)
    assert answer.status_code == 400, answer.text
