"""What macOS says of proxies is asked for once; from then on urllib finds an answer in the environment for every host."""

import os
import urllib.request

import pytest

from s3reg.cli import proxies

PROXY = "http://proxy.example.com:3128"


@pytest.fixture
def environment(monkeypatch):
    """`environment(told)`: nothing but this is said of proxies."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)

    def put(told):
        for name, value in told.items():
            monkeypatch.setenv(name, value)

    return put


def nobody(host):
    raise AssertionError(host)


def test_where_the_system_knows_no_proxy_everything_is_called_directly_and_it_is_not_asked_again(environment):
    environment(proxies.left({}, ["minio:9000"], nobody))
    # urllib asks the system if this is empty.
    assert urllib.request.getproxies_environment() == {"no": "*"}
    assert all(urllib.request.proxy_bypass_environment(host) for host in ("minio:9000", "s3.amazonaws.com"))


def test_the_system_s_proxies_are_taken_but_for_those_hosts_that_it_calls_directly(environment):
    direct = {"minio:9000", "169.254.169.254"}
    environment(proxies.left({"http": PROXY, "https": PROXY}, ["minio:9000", "away:80", *direct], direct.__contains__))
    found = urllib.request.getproxies_environment()
    assert (found["http"], found["https"]) == (PROXY, PROXY)
    hosts = ("minio:9000", "bucket.minio:9000", "169.254.169.254", "away:80", "s3.amazonaws.com")
    assert [host for host in hosts if urllib.request.proxy_bypass_environment(host)] == list(hosts[:3])


def test_proxies_without_a_host_that_is_called_directly_are_taken_as_they_are(environment):
    environment(proxies.left({"https": PROXY}, ["away:80"], lambda _: False))
    assert urllib.request.getproxies_environment() == {"https": PROXY}


def test_nothing_is_asked_or_left_where_this_is_no_mac(monkeypatch, environment):
    environment({})
    monkeypatch.setattr("sys.platform", "linux")
    before = dict(os.environ)
    proxies.ask_once(["http://minio:9000", None])
    assert dict(os.environ) == before


def test_on_a_mac_the_answer_is_left_in_the_environment_unless_something_is_said_there(monkeypatch, environment):
    environment({})
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("os.environ", dict(os.environ))
    proxies.ask_once([None])
    assert os.environ["no_proxy"] == "*"
    os.environ["no_proxy"] = "minio"
    proxies.ask_once(["http://minio:9000"])
    assert os.environ["no_proxy"] == "minio"
