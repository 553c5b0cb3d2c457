"""Attacks with client certificates: of others, of nobody, out of a stranger's hands, and with names that mean somebody."""

import datetime as dt
import ipaddress
import itertools
from urllib.parse import quote

import pytest
from cryptography import x509

import pki
from access.house import ALL
from access.refusal import knock
from access_kit import Closed, through_nginx

LEAF, CHAIN = "X-Amzn-Mtls-Clientcert-Leaf", "X-Amzn-Mtls-Clientcert"
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def authority():
    return pki.Authority()


@pytest.fixture
def closed(tmp_path, clock, authority):
    return Closed(tmp_path / "store", clock=clock, authority=authority)


@pytest.fixture
def strict(tmp_path, clock, authority):
    return Closed(tmp_path / "store", clock=clock, authority=authority, authorization=True)


def who(closed, headers):
    return closed.http.get("/transfer/v1/whoami", headers=headers).json


def test_a_certificate_of_its_authority_comes_in(closed):
    headers = closed.certificate("robot", ["ci", "night shift"])
    assert knock(closed, headers) == 200
    assert (who(closed, headers)["name"], who(closed, headers)["groups"]) == ("cert:robot", ["ci", "night shift"])


def test_a_certificate_of_another_authority_does_not(closed, authority):
    for other in (pki.Authority("Another CA"), pki.Authority("Test CA")):
        assert knock(closed, through_nginx(other.issue("robot").pem)) == 401
    mixed = pki.Authority("Test CA").issue("robot").pem + authority.pem
    assert knock(closed, through_nginx(mixed)) == 401, "with the good authority's certificate behind it"


def test_a_certificate_that_signs_itself_is_nobodys_whatever_it_calls_itself(closed, authority):
    for name, more in itertools.product(("Test CA", "robot", "root"), (None, [], [(pki.CLIENTS, False)])):
        alone = pki.Authority(name, extensions=more).issued
        assert knock(closed, through_nginx(alone.pem)) == 401
        assert knock(closed, through_nginx(alone.pem + authority.pem)) == 401


def test_the_authority_itself_is_no_client(closed, authority):
    assert knock(closed, through_nginx(authority.pem)) == 401


def test_a_client_is_no_authority(closed, authority):
    """What a certificate that may sign nothing has signed."""
    client = authority.issue("robot")
    forged = pki._signed(
        pki.name("root"), client.certificate.subject, (dt.datetime.now(dt.UTC) - DAY, dt.datetime.now(dt.UTC) + DAY), [],
        key=client.key, signer=client.key,
    )  # fmt: skip
    for pem in (forged.pem, forged.pem + client.pem, forged.pem + client.pem + authority.pem):
        assert knock(closed, through_nginx(pem)) == 401


def test_only_the_first_certificate_of_a_header_says_who_it_is(closed, authority):
    stranger, robot = pki.Authority("Another CA").issue("stranger"), authority.issue("robot")
    assert knock(closed, through_nginx(stranger.pem + robot.pem)) == 401
    assert who(closed, through_nginx(robot.pem + stranger.pem))["name"] == "cert:robot"


def test_a_certificate_for_another_purpose_does_not(closed, authority):
    assert knock(closed, through_nginx(authority.server("robot").pem)) == 401


NAMES = [
    "root",
    "everyone",
    "key:ci",
    "cert:root",
    "ROOT",
    " ",
    "../../root",
    "a,CN=root",
    "a+CN=root",
    "O=x/CN=root",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_common_name_is_a_certificates_and_nobody_elses(strict, authority, name):
    """Whatever it says, it is `cert:` and that, and may do what its groups may: nothing."""
    strict.make("ci", [strict.group("admins", *ALL)])
    pem = authority.issue(name).pem
    answer = strict.http.get("/transfer/v1/whoami", headers=through_nginx(pem))
    assert answer.status_code == 401 or answer.json["name"] == f"cert:{name}"
    assert strict.http.get("/v1/apikey", headers=through_nginx(pem)).status_code in {401, 403}


@pytest.mark.parametrize(
    "name", ["robot\n", "robot\nroot", "ro\0bot", "robot\u2028", "\u202erobot", "ro\u200bbot", "\ud7ff\x7f"]
)
def test_a_name_that_would_write_a_line_of_its_own_or_hide_one_is_refused(closed, authority, name):
    assert knock(closed, through_nginx(authority.issue(name).pem)) == 401
    assert knock(closed, through_nginx(authority.issue("robot", ou=[name]).pem)) == 401


def test_a_certificate_without_a_name_is_nobodys(closed, authority):
    assert knock(closed, through_nginx(authority.issue(None, o=["x"]).pem)) == 401


def test_a_group_of_a_certificate_that_nobody_has_signed_is_none(strict, authority):
    strict.group("admins", *ALL)
    real = authority.issue("robot").certificate
    other = pki.Authority("Test CA")
    now = dt.datetime.now(dt.UTC)
    forged = pki._signed(
        pki.name("robot", ["admins"]),
        other.subject,
        (now - DAY, now + DAY),
        [],
        key=other.issued.key,
        signer=other.issued.key,
    )
    assert knock(strict, through_nginx(forged.pem)) == 401
    altered = bytearray(authority.issue("robot", ou=["nobody"]).der)
    place = altered.index(b"nobody")
    altered[place : place + 6] = b"admins"
    assert x509.load_der_x509_certificate(bytes(altered)).subject != real.subject
    pem = x509.load_der_x509_certificate(bytes(altered)).public_bytes(pki.serialization.Encoding.PEM)
    assert knock(strict, through_nginx(pem)) == 401


def test_a_group_is_its_name_letter_by_letter(strict):
    strict.group("admins", *ALL)
    for name in ("Admins", "ADMINS", "admin", "admins2", "\N{FULLWIDTH LATIN SMALL LETTER A}dmins", "admins,admins"):
        assert strict.http.get("/registry/vm", headers=strict.certificate("robot", [name])).status_code == 403
    assert knock(strict, strict.certificate("robot", ["nobody", "admins"])) == 200


def test_the_organisation_counts_only_where_there_is_no_unit(strict):
    strict.group("admins", *ALL)
    assert knock(strict, strict.certificate("robot", o=["admins"])) == 200
    mixed = strict.certificate("robot", ["nobody"], o=["admins"])
    assert strict.http.get("/registry/vm", headers=mixed).status_code == 403


@pytest.mark.parametrize("days", [(-3, -1), (1, 3)])
def test_a_certificate_outside_its_time_does_not_come_in(closed, authority, days):
    now = dt.datetime.now(dt.UTC)
    starts, ends = (now + day * DAY for day in days)
    assert knock(closed, closed.certificate(now=starts + DAY, ends=ends)) == 401


def test_a_certificate_ends_while_its_connection_lives(closed, clock):
    headers = closed.certificate()
    assert knock(closed, headers) == 200
    clock.ahead += 2 * DAY.total_seconds()
    assert knock(closed, headers) == 401


def test_an_authority_that_ended_takes_all_its_certificates_along(tmp_path, clock):
    now = dt.datetime.now(dt.UTC)
    closed = Closed(tmp_path / "store", clock=clock, authority=pki.Authority(ends=now + DAY))
    headers = closed.certificate(ends=now + 9 * DAY)
    assert knock(closed, headers) == 200
    clock.ahead += 2 * DAY.total_seconds()
    assert knock(closed, headers) == 401


def test_a_revoked_certificate_is_refused_and_so_is_every_one_once_the_list_has_ended(tmp_path, clock, authority):
    good, gone = authority.issue("good"), authority.issue("gone")
    crl = tmp_path / "crl.pem"
    crl.write_bytes(authority.crl(gone, ends=dt.datetime.now(dt.UTC) + DAY / 2))
    closed = Closed(tmp_path / "store", clock=clock, authority=authority, client_crl=str(crl))
    assert (knock(closed, through_nginx(good.pem)), knock(closed, through_nginx(gone.pem))) == (200, 401)
    clock.ahead += DAY.total_seconds() * 0.6
    assert (knock(closed, through_nginx(good.pem)), knock(closed, through_nginx(gone.pem))) == (401, 401)


def test_a_list_of_another_authority_frees_nobody(tmp_path, clock, authority):
    gone, other = authority.issue("gone"), pki.Authority("Test CA")
    crl = tmp_path / "crl.pem"
    for data in (other.crl(), authority.crl(gone) + other.crl(), other.crl() + authority.crl(gone)):
        crl.write_bytes(data)
        closed = Closed(tmp_path / "store", clock=clock, authority=authority, client_crl=str(crl))
        assert knock(closed, through_nginx(gone.pem)) == 401


# --- Headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "127.0.0.2", "::1", "::ffff:10.0.0.1", "192.0.2.1", "", "localhost", "0.0.0.0", "127.0.0.1.example"],
)
def test_a_header_of_a_stranger_is_ignored(closed, address):
    headers = closed.certificate()
    for more in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Real-Ip": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
        assert knock(closed, {**headers, **more}, environ_base={"REMOTE_ADDR": address}) == 401


def test_an_address_of_both_families_is_the_proxys(closed):
    assert knock(closed, closed.certificate(), environ_base={"REMOTE_ADDR": "::ffff:127.0.0.1"}) == 200


UNVERIFIED = [
    "", "NONE", "FAILED", "FAILED:unable to verify", "success", "SUCCESS ,", "SUCCESS,SUCCESS", "SUCCESS,FAILED",
    "FAILED,SUCCESS", "OK", "1", "SUCCESSFUL",
]  # fmt: skip


@pytest.mark.parametrize("verified", UNVERIFIED)
def test_a_certificate_that_the_proxy_has_not_verified_is_refused(closed, verified):
    headers = {**closed.certificate(), "Ssl-Client-Verify": verified}
    assert knock(closed, headers) == 401
    del headers["Ssl-Client-Verify"]
    assert knock(closed, headers) == 401


NO_CERTIFICATES = {
    "nothing": "", "a letter": "x", "a percent": "%", "a nul": "%00", "a beginning": "-----BEGIN CERTIFICATE-----",
    "dashes": "%2d" * 1000, "bytes": "\xff" * 100, "base64": "MIIB" * 1000,
    "an empty one": "-----BEGIN CERTIFICATE-----%0Axxxx%0A-----END CERTIFICATE-----%0A",
}  # fmt: skip


@pytest.mark.parametrize("text", NO_CERTIFICATES.values(), ids=NO_CERTIFICATES)
def test_a_header_that_holds_no_certificate_is_refused(closed, text):
    assert knock(closed, {"Ssl-Client-Verify": "SUCCESS", "Ssl-Client-Cert": text}) == 401


def test_two_headers_are_not_the_better_one_of_them(closed, authority):
    """A server joins what comes twice with a comma."""
    mine, theirs = (quote(authority.issue(name).pem.decode(), safe="") for name in ("mine", "theirs"))
    found = closed.http.get(
        "/transfer/v1/whoami", headers={"Ssl-Client-Verify": "SUCCESS", "Ssl-Client-Cert": f"{mine},{theirs}"}
    )
    assert found.status_code == 401 or found.json["name"] == "cert:mine"
    stranger = quote(pki.Authority("Another CA").issue("stranger").pem.decode(), safe="")
    for text in (f"{stranger},{mine}", f"{stranger}, {mine}", f",{mine}"):
        assert knock(closed, {"Ssl-Client-Verify": "SUCCESS", "Ssl-Client-Cert": text}) == 401


def test_the_header_of_another_kind_of_proxy_is_nothing(closed, authority, tmp_path):
    pem = quote(authority.issue("robot").pem.decode(), safe="+=/")
    for name in (
        LEAF,
        CHAIN,
        "X-Client-Cert",
        "X-Ssl-Cert",
        "X-Forwarded-Client-Cert",
        "Client-Cert",
        "Ssl_Client_Cert",
    ):
        assert knock(closed, {name: pem}) == 401, name
    balanced = Closed(tmp_path / "other", authority=authority, proxy_certificates="alb-verify")
    assert knock(balanced, closed.certificate()) == 401
    assert knock(balanced, {LEAF: pem}) == 200
    assert knock(balanced, {LEAF: pem}, environ_base={"REMOTE_ADDR": "10.0.0.1"}) == 401


def test_a_balancer_is_believed_the_header_of_its_mode_only(tmp_path, authority):
    """The other one a client may have written."""
    mine, theirs = (quote(authority.issue(name).pem.decode(), safe="+=/") for name in ("mine", "theirs"))
    for kind, own, other in (("alb-verify", LEAF, CHAIN), ("alb-passthrough", CHAIN, LEAF)):
        balanced = Closed(tmp_path / kind, authority=authority, proxy_certificates=kind)
        assert knock(balanced, {other: theirs}) == 401
        told = balanced.http.get("/transfer/v1/whoami", headers={own: mine, other: theirs})
        assert told.json["name"] == "cert:mine"


def test_without_a_kind_of_proxy_no_header_is_looked_at(tmp_path, authority):
    open_to_none = Closed(tmp_path / "store", authority=authority, proxy_certificates=None)
    assert knock(open_to_none, open_to_none.certificate()) == 401


def test_a_certificate_adds_nothing_to_a_header_that_is_wrong(closed):
    headers = closed.certificate()
    for proof in ("Basic !", "Bearer !", "Basic cm9vdDp3cm9uZ3Rva2Vu", "Digest x"):
        assert knock(closed, {**headers, "Authorization": proof}) == 401


def test_addresses_of_proxies_are_networks_and_nothing_near_them(tmp_path, authority):
    network = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))
    closed = Closed(tmp_path / "store", authority=authority, proxies=network)
    headers = closed.certificate()
    for address, wanted in (
        ("10.1.2.3", 200),
        ("fd12::1", 200),
        ("10.2.0.1", 401),
        ("10.10.0.1", 401),
        ("fc00::1", 401),
    ):
        assert knock(closed, headers, environ_base={"REMOTE_ADDR": address}) == wanted
