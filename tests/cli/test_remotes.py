"""The registries that a node knows."""

import os
import stat
import threading
from pathlib import Path

import pytest
import yaml

from s3reg.client.connection import Access
from s3reg.client.remotes import Remote, Remotes, remotes_path
from s3reg.errors import NameInvalid, NoRegistry, RegistryUnknown, RemotesInvalid, RemoteTaken


@pytest.fixture
def remotes(tmp_path):
    return Remotes(tmp_path / "deep" / "remotes.yaml")


def remote(name, url="http://registry:8089", **more):
    return Remote(name, Access(url, **more))


def test_the_last_one_added_is_the_default(remotes):
    remotes.add(remote("one", "http://one"))
    remotes.add(remote("two", "http://two"))
    assert remotes.default().name == "two"
    remotes.change("one", None)
    assert remotes.default().name == "one"


def test_when_the_default_goes_the_last_one_left_takes_its_place(remotes):
    for name in ("one", "two", "three"):
        remotes.add(remote(name, f"http://{name}"))
    remotes.delete(["three"])
    assert remotes.default().name == "two"
    remotes.delete(["one", "two"])
    assert remotes.default() is None


def test_deleting_an_unknown_one_deletes_none(remotes):
    remotes.add(remote("one"))
    with pytest.raises(RegistryUnknown):
        remotes.delete(["one", "nowhere"])
    assert [found.name for found in remotes.all()] == ["one"]


def test_adding_the_same_again_is_no_error_and_another_address_is(remotes):
    remotes.add(remote("one", "http://one"))
    remotes.add(remote("one", "http://one"))
    with pytest.raises(RemoteTaken):
        remotes.add(remote("one", "http://elsewhere"))
    assert remotes.find("one").access.url == "http://one"


def test_how_to_reach_a_registry_is_remembered(remotes):
    kept = remote("one", "https://one", certificate="/c.pem", key="/k.pem", ca_bundle="/ca.pem", insecure=True)
    remotes.add(kept)
    assert remotes.find("one") == kept
    assert remotes.at("https://one/").access == kept.access
    assert remotes.at("https://other").access == Access("https://other")


def test_the_file_lies_in_the_users_configuration_folder(s3reg, tmp_path, monkeypatch):
    monkeypatch.delenv("S3REG_REMOTES")
    s3reg("add", "one", "http://one", "-f")
    assert yaml.safe_load((tmp_path / ".config" / "s3reg" / "remotes.yaml").read_text())["default"] == "one"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    assert remotes_path(os.environ) == tmp_path / "mine" / "s3reg" / "remotes.yaml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert remotes_path(os.environ) == Path.home() / ".config" / "s3reg" / "remotes.yaml"


@pytest.mark.parametrize("name", ["11.60", "null", "yes", "2026-01-02", "näh: 'x' #1", "~", "<<", "? a"])
def test_a_name_that_yaml_takes_for_something_else_comes_back_as_it_was(remotes, name):
    remotes.add(remote(name))
    assert remotes.default() == remote(name)


def test_of_writers_at_once_none_loses_what_another_wrote(tmp_path):
    path = tmp_path / "remotes.yaml"
    names = [f"r{number}" for number in range(12)]
    threads = [threading.Thread(target=Remotes(path).add, args=(remote(name),)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found.name for found in Remotes(path).all()) == sorted(names)
    assert sorted(left.name for left in tmp_path.iterdir()) == ["remotes.yaml", "remotes.yaml.lock"]


def test_only_its_owner_may_read_the_file(remotes, tmp_path):
    remotes.add(remote("one"))
    assert stat.S_IMODE((tmp_path / "deep" / "remotes.yaml").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"v": 9}',
        '{"v": 1, "default": null, "remotes": {"a": {"url": 5}}}',
        "[" * 100_000,
        " " * 2_000_000,
    ],
)
def test_a_file_that_is_none_is_refused_and_left_as_it_is(tmp_path, text):
    path = tmp_path / "remotes.yaml"
    path.write_text(text)
    for use in (Remotes(path).all, lambda: Remotes(path).add(remote("one"))):
        with pytest.raises(RemotesInvalid):
            use()
    assert path.read_text() == text


def test_an_option_wins_over_the_environment_and_that_over_the_default(remotes):
    with pytest.raises(NoRegistry):
        remotes.chosen(remote=None, address=None, environment={})
    remotes.add(remote("one", "http://one"))
    remotes.add(remote("two", "http://two"))

    def chosen(**asked):
        return remotes.chosen(**{"remote": None, "address": None, "environment": {}, **asked}).access.url

    anka = {"ANKA_REGISTRY": "http://anka:8089"}
    assert chosen() == "http://two"
    assert chosen(environment=anka) == "http://anka:8089"
    assert chosen(environment={**anka, "S3REG_REGISTRY": "ours:8089"}) == "http://ours:8089"
    assert chosen(environment={"ANKA_REGISTRY": ""}) == "http://two"
    assert chosen(environment=anka, remote="one") == "http://one"
    assert chosen(environment=anka, remote="http://three") == "http://three"
    assert chosen(environment=anka, address="four") == "http://four"


@pytest.mark.parametrize("url", ["", "ftp://host", "http://host:x", "http://h/?q"])
def test_an_address_that_is_none_is_refused(s3reg, url):
    assert s3reg("add", "one", url, "-f").code == 2


@pytest.mark.parametrize("name", ["", " a", "a/b", "-x", "a\nb", "a" * 300])
def test_a_name_that_is_none_is_refused(remotes, name):
    with pytest.raises(NameInvalid):
        remotes.add(remote(name))


def test_add_asks_the_registry_unless_told_not_to(s3reg, registry):
    assert s3reg("add", "here", registry).code == 0
    assert s3reg("list").code == 0
    assert s3reg("--insecure", "add", "later", "https://127.0.0.1:9", "-f").code == 0
    assert s3reg("-j", "list-repos").answer["body"] == [
        {"default": False, "url": registry, "name": "here"},
        {"default": True, "url": "https://127.0.0.1:9", "name": "later"},
    ]


def test_a_registry_that_does_not_answer_is_not_added(s3reg, tmp_path):
    done = s3reg("add", "nobody", "http://127.0.0.1:9")
    assert done.code == 10
    assert "http://127.0.0.1:9 does not answer" in done.err
    assert not (tmp_path / "remotes.yaml").exists()


def test_a_relative_certificate_is_remembered_as_an_absolute_one(s3reg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    s3reg("add", "here", "https://registry", "-f", "--cert", "node.pem", "-k", "node.key")
    known = yaml.safe_load((tmp_path / "remotes.yaml").read_text())["remotes"]["here"]
    assert (known["certificate"], known["key"]) == (str(tmp_path / "node.pem"), str(tmp_path / "node.key"))


def test_set_changes_the_default_and_the_address(s3reg):
    s3reg("add", "one", "http://one", "-f")
    s3reg("add", "two", "http://two", "-f")
    assert s3reg("set", "one").code == 0
    assert s3reg("list-repos", "-d").out == "one\thttp://one\tdefault\n"
    assert s3reg("set", "one", "http://uno", "-f").code == 0
    assert s3reg("list-repos", "one").out == "one\thttp://uno\tdefault\n"
    assert s3reg("set", "nowhere").code == 3


def test_a_push_goes_where_the_option_says_not_to_the_default(s3reg, registry, disk):
    s3reg("import", "base", "--disk", disk)
    s3reg("add", "here", registry)
    s3reg("add", "elsewhere", "http://127.0.0.1:9", "-f")
    assert s3reg("push", "base", "-t", "v1", "-r", "here").code == 0
    assert s3reg("-r", registry, "push", "base", "-t", "v2").code == 0
    assert s3reg("-j", "-r", "here", "list").answer["body"][0]["latest"] == "v2"
