"""A registry's address, as people write and paste it."""

import pytest

from s3reg.client.address import address_of
from s3reg.client.connection import Access, Connection
from s3reg.errors import NameInvalid
from scripted import Scripted, answers


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("registry", "http://registry"),
        ("registry:8089", "http://registry:8089"),
        ("http://h:8089//", "http://h:8089"),
        ("http://h:/", "http://h"),
        ("  https://h:8089/\n", "https://h:8089"),
        ("HTTPS://Registry.Example:8089", "https://registry.example:8089"),
        ("http://mac_mini_3:8089", "http://mac_mini_3:8089"),
        ("http://h:8089/behind/A/Proxy/", "http://h:8089/behind/A/Proxy"),
        ("http://10.0.0.7:80", "http://10.0.0.7:80"),
        ("http://[::1]:8089/", "http://[::1]:8089"),
        ("[FE80::1]:8089", "http://[fe80::1]:8089"),
    ],
)
def test_s31_an_address_is_taken_as_it_is_meant(written, url):
    found = address_of(written)
    assert (found.url, found.user, found.password) == (url, None, None)
    assert address_of(found.url) == found


@pytest.mark.parametrize(
    ("written", "user", "password"),
    [
        ("http://root:token@h", "root", "token"),
        ("root:token@h:8089", "root", "token"),
        ("http://:token@h", "", "token"),
        ("http://root@h", "root", ""),
        ("http://root:a%40b%2Fc@h", "root", "a@b/c"),
        ("http://root:a@b:c+d%e@h", "root", "a@b:c+d%e"),
    ],
)
def test_s26_a_user_and_a_password_are_no_part_of_it(written, user, password):
    found = address_of(written)
    assert (found.user, found.password) == (user, password)
    assert found.url in {"http://h", "http://h:8089"}
    assert password == "" or password not in repr(found)


@pytest.mark.parametrize(
    "written",
    ["", "http://", "ftp://registry", "s3://me:pa55word@bucket", "http://[::1", "http://host:port", "http://host:99999",
     "http://h:0", "http://h/?a=b", "http://h/#f", "http://h h", "http://h\n/x", "http:/h", "https:/h", "http:h",
     "http://me:pa55word@", "http://me:pa55word@[::1", "http://me:12pa55word/x@h", "http://me:12/pa55word@h",
     "http://me:12?pa55word@h", "http://me:pa55word#x@h"],
)  # fmt: skip
def test_what_is_none_is_said_without_the_password(written):
    for act in (lambda: address_of(written), lambda: Connection(Access(written))):
        with pytest.raises(NameInvalid) as caught:
            act()
        assert "pa55word" not in f"{caught.value} {caught.value.as_dict()}"
        assert "http://registry:8089" in str(caught.value)


def test_calls_go_to_it():
    with Scripted(answers(200, {})) as server:
        connection = Connection(Access(f" {server.url.upper()}/Behind//"))
        connection.call("GET", "/x")
        connection.close()
        assert server.requests[0].target == "/Behind/x"
