"""Client certificates: who is let in, as whom, and who is not, with a reason that says why."""

import datetime as dt
import logging
import secrets
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import pki
import tap
from s3reg.auth import chain
from s3reg.auth.certificates import Certificates, Holder, Presented
from s3reg.errors import CertificateRefused, SettingInvalid

LONG_AGO = 1_600_000_000


@pytest.fixture(scope="module")
def ca():
    return pki.Authority("Company CA")


@pytest.fixture(scope="module")
def sub(ca):
    return pki.Authority("Build CA", parent=ca)


@pytest.fixture
def known(tmp_path):
    """`known(*authorities, crls=…)`: what knows these CAs, and the lists if there are any."""

    def make(*authorities, crls=None, clock=time.time):
        pki.Authority.write(authorities[0], tmp_path / "ca.pem", *authorities[1:])
        if crls is not None:
            (tmp_path / "crl.pem").write_bytes(b"".join(crls))
        return Certificates(tmp_path / "ca.pem", None if crls is None else tmp_path / "crl.pem", clock)

    return make


def refusal(certificates, *shown, **more):
    """Why it is refused."""
    first, *others = (one.der if hasattr(one, "der") else one for one in shown)
    with pytest.raises(CertificateRefused) as e:
        certificates.holder(Presented(first, tuple(others), **more))
    return str(e.value)


def user(certificates, *shown, **more):
    first, *others = (one.der for one in shown)
    return certificates.holder(Presented(first, tuple(others), **more)).user


# --- Whom it stands for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ou", "o", "groups"),
    [
        (["ci"], ["Company"], ("ci",)),
        (["ci", "qa team", "ci"], ["Company"], ("ci", "qa team")),
        ([], ["Company", "Daughter & Sons"], ("Company", "Daughter & Sons")),
        ([], [], ()),
    ],
)
def test_the_user_is_the_cn_and_the_groups_are_the_ous_or_else_the_os(ca, known, ou, o, groups):
    shown = ca.issue("build robot 7", ou=ou, o=o)
    for data in (shown.der, shown.pem):
        assert known(ca).holder(Presented(data)) == Holder("build robot 7", groups)


def subject(*parts):
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


def test_of_several_cns_the_last_counts(ca, known):
    several = subject((NameOID.COMMON_NAME, "robots"), (NameOID.COMMON_NAME, "robot-7"))
    assert user(known(ca), ca.issue(subject=several)) == "robot-7"


@pytest.mark.parametrize("parts", [(), ((NameOID.COMMON_NAME, "  "),), ((NameOID.ORGANIZATION_NAME, "Company"),)])
def test_one_without_a_name_is_refused(ca, known, parts):
    assert "no common name" in refusal(known(ca), ca.issue(subject=subject(*parts)))


@pytest.mark.parametrize(
    "bad", ["ro\nbot", "ro\0bot", "robot\x1b[2J", "r\u202eobot", "ro\u200bbot", "ro\u2028bot"], ids=ascii
)
@pytest.mark.parametrize("kind", [NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME])
def test_a_name_with_what_cannot_be_seen_is_refused(ca, known, bad, kind):
    both = subject((NameOID.COMMON_NAME, "robot"), (kind, bad))
    assert "cannot be seen" in refusal(known(ca), ca.issue(subject=both))


@pytest.mark.parametrize(
    "data",
    [b"", b"0", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"-----", secrets.token_bytes(900)],
)
def test_what_is_no_certificate_is_refused(ca, known, data):
    assert "cannot be read" in refusal(known(ca), data)
    assert "cannot be read" in refusal(known(ca), ca.issue(), data)


def test_more_than_anybody_shows_is_not_read(ca, known):
    assert "too large" in refusal(known(ca), ca.issue(), *[ca.der] * 1000)


# --- From it to a CA -------------------------------------------------------------------------------------------------


def test_a_certificate_of_another_ca_is_refused_of_the_same_name_too(ca, known):
    for other in (pki.Authority("Other CA"), pki.Authority("Company CA")):
        told = refusal(known(ca), other.issue("robot"))
        assert "none of the CAs" in told
        assert other.subject.rfc4514_string() in told
        assert "none of the CAs" in refusal(known(ca), other.issue("robot"), other, checked=True)


def test_one_that_signed_itself_is_refused(ca, known):
    assert "none of the CAs" in refusal(known(ca), pki.Authority("robot", extensions=[]))


def test_a_file_holds_several_cas(ca, known):
    other = pki.Authority("Other CA")
    both = known(ca, other)
    assert [user(both, one.issue("robot")) for one in (ca, other)] == ["robot", "robot"]


def test_intermediates_are_shown_or_lie_in_the_file_or_are_trusted_without_what_is_above(ca, sub, known):
    lowest = pki.Authority("Lab CA", parent=sub)
    shown = lowest.issue("robot")
    assert user(known(ca), shown, sub, lowest) == user(known(ca), shown, lowest, sub) == "robot"
    assert user(known(ca, sub, lowest), shown) == "robot"
    assert user(known(ca, sub), shown, lowest) == "robot"
    assert user(known(lowest), shown) == "robot"
    assert known(ca).holder(Presented(shown.pem + lowest.pem + sub.pem)).user == "robot"
    assert "'CN=Lab CA', which is none of the CAs" in refusal(known(ca), shown, sub)


def test_a_way_is_found_past_one_that_leads_nowhere(ca, known):
    """A CA that was renewed with its key: two certificates of one name, and the older one has ended."""
    past = dt.datetime.now(dt.UTC) - 20 * pki.DAY
    key = pki.Authority("Build CA").issued.key
    ended = pki.Authority("Build CA", parent=ca, key=key, now=past, ends=past + pki.DAY)
    renewed = pki.Authority("Build CA", parent=ca, key=key)
    shown = ended.issue("robot")
    assert user(known(ca), shown, ended, renewed) == user(known(ca, ended, renewed), shown) == "robot"
    assert "expired" in refusal(known(ca), shown, ended)


def test_whoever_is_no_ca_issues_nothing(ca, known):
    """The classic: a client signs a certificate with its own."""
    client = ca.issue("robot")
    forger = pki.Authority("x")
    forger.subject, forger.issued = client.certificate.subject, client
    assert "'CN=robot' is no CA" in refusal(known(ca), forger.issue("root"), client)
    said_no = pki.Authority("Not", parent=ca, extensions=[(x509.BasicConstraints(ca=False, path_length=None), True)])
    assert "is no CA" in refusal(known(ca), said_no.issue("root"), said_no)
    assert "is no CA" in refusal(known(said_no), said_no.issue("root"))


def test_a_key_that_may_not_sign_certificates_signs_none(ca, known):
    is_ca = (x509.BasicConstraints(ca=True, path_length=None), True)
    other = pki.Authority("Other", parent=ca, extensions=[is_ca, (pki.usage("crl_sign"), True)])
    assert "may not sign certificates" in refusal(known(ca), other.issue("robot"), other)


def test_a_ca_for_servers_issues_no_clients(ca, known):
    is_ca = (x509.BasicConstraints(ca=True, path_length=None), True)
    other = pki.Authority("Web", parent=ca, extensions=[is_ca, (pki.SERVERS, False)])
    assert "'CN=Web' is not for clients" in refusal(known(ca), other.issue("robot"), other)


def test_a_ca_has_no_more_cas_below_it_than_it_may(known):
    def bounded(cn, below, parent=None):
        return pki.Authority(cn, parent=parent, extensions=[(x509.BasicConstraints(ca=True, path_length=below), True)])

    root = bounded("Root", 1)
    first = bounded("First", 0, root)
    second = pki.Authority("Second", parent=first)
    assert user(known(root), first.issue("robot"), first) == "robot"
    assert "not have so many CAs" in refusal(known(root), second.issue("robot"), first, second)


def test_a_chain_that_is_endless_or_very_long_ends(ca, known):
    key = pki.Authority("A").issued.key
    one, other = pki.Authority("A", key=key), pki.Authority("B", key=key)
    crossed = [pki.Authority("A", parent=other, key=key), pki.Authority("B", parent=one, key=key)]
    assert "none of the CAs" in refusal(known(ca), one.issue("robot"), *crossed)
    same = [pki.Authority("A", parent=one, key=key) for _ in range(100)]
    assert "leads nowhere" in refusal(known(ca), one.issue("robot"), *same)
    long = [ca]
    for number in range(chain.LONGEST_PATH - 1):
        long.append(pki.Authority(f"{number}", parent=long[-1]))
    assert user(known(ca), long[-2].issue("robot"), *long[1:-1]) == "robot"
    assert "none of the CAs" in refusal(known(ca), long[-1].issue("robot"), *long[1:])


def test_two_cas_that_signed_each_other_are_passed_once():
    one, other = pki.Authority("One"), pki.Authority("Other")
    crossed = [
        pki.Authority(cn, parent=b, key=a.issued.key) for cn, a, b in (("One", one, other), ("Other", other, one))
    ]
    anchors = [authority.issued.certificate for authority in crossed]
    leaf = one.issue("robot").certificate
    assert chain.path(leaf, [], anchors, dt.datetime.now(dt.UTC), checked=False) == [leaf, *anchors]


def test_each_date_on_the_way_counts(known):
    now = dt.datetime.now(dt.UTC)
    root = pki.Authority("Root", now=now, ends=now + 20 * pki.DAY)
    middle = pki.Authority("Middle", parent=root, now=now, ends=now + 10 * pki.DAY)
    leaf = middle.issue("robot", now=now, ends=now + 5 * pki.DAY)

    def at(days):
        return known(root, clock=(now + days * pki.DAY).timestamp)

    assert user(at(4), leaf, middle) == "robot"
    assert "'CN=robot' is not valid before" in refusal(at(-2), leaf, middle)
    assert "'CN=robot' expired" in refusal(at(6), leaf, middle)
    assert "'CN=robot' expired" in refusal(at(6), leaf, middle, checked=True), "a connection may outlive it"
    long = middle.issue("robot", now=now, ends=now + 50 * pki.DAY)
    assert "'CN=Middle' expired" in refusal(at(11), long, middle)
    direct = root.issue("robot", now=now, ends=now + 50 * pki.DAY)
    assert "'CN=Root' expired" in refusal(at(21), direct)
    assert user(at(19), direct) == "robot"


@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_s27_a_signature_that_can_be_forged_is_refused_in_a_clients_certificate_and_above_it(digest, known, tmp_path):
    root = pki.Authority("Root", key=tap.key())  # there is no MD5 with elliptic keys
    leaf = root.by_openssl(tmp_path, "/CN=robot", f"-{digest}")
    told = refusal(known(root), leaf)
    assert f"'CN=robot' is signed with {digest.upper()}" in told
    assert "is signed with" in refusal(known(root), leaf, checked=True)
    (tmp_path / "ca.ext").write_text("basicConstraints=critical,CA:TRUE\n")
    middle = pki.Authority("Middle")
    middle.issued = root.by_openssl(tmp_path, "/CN=Middle", f"-{digest}", "-extfile", str(tmp_path / "ca.ext"))
    assert f"'CN=Middle' is signed with {digest.upper()}" in refusal(known(root), middle.issue("robot"), middle)
    assert user(known(middle), middle.issue("robot")) == "robot", "trusted itself: nobody's signature counts"


# --- What OpenSSL makes, and what others do --------------------------------------------------------------------------


def test_certificates_of_plain_openssl_pass(ca, known, tmp_path):
    leaf = ca.by_openssl(tmp_path, "/O=Company/OU=ci/CN=robot")
    assert leaf.certificate.version is x509.Version.v1
    assert known(ca).holder(Presented(leaf.pem)) == Holder("robot", ("ci",))


def test_a_ca_without_any_extension_counts_in_the_file_and_only_there(ca, known, tmp_path):
    plain = pki.Authority("Plain")
    plain.issued = ca.by_openssl(tmp_path, "/CN=Plain")
    assert user(known(plain), plain.issue("robot")) == "robot"
    assert "is no CA" in refusal(known(ca), plain.issue("robot"), plain)


@pytest.mark.parametrize(
    "extensions",
    [
        [],
        [(pki.usage("digital_signature"), True)],
        [(pki.usage("key_agreement"), True)],
        [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), True)],
        [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)],
        [(x509.BasicConstraints(ca=False, path_length=None), True)],
        [(x509.SubjectAlternativeName([x509.RFC822Name("robot@example.com")]), True)],
        [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), False)],
    ],
)
def test_extensions_that_allow_it_pass(ca, known, extensions):
    assert user(known(ca), ca.issue("robot", extensions=extensions)) == "robot"


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        ([(pki.SERVERS, False)], "is not for clients"),
        ([(pki.usage("key_encipherment"), True)], "may not be used to prove"),
        ([(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)], "not known: 1.2.3.4"),
    ],
)
def test_extensions_that_forbid_it_refuse(ca, known, extensions, reason):
    assert reason in refusal(known(ca), ca.issue("robot", extensions=extensions))


def test_name_constraints_are_checked_by_tls_and_refused_elsewhere(ca, known):
    is_ca = (x509.BasicConstraints(ca=True, path_length=None), True)
    only = (x509.NameConstraints([x509.DNSName("example.com")], None), True)
    bounded = pki.Authority("Bounded", parent=ca, extensions=[is_ca, only])
    assert "name constraints" in refusal(known(ca), bounded.issue("robot"), bounded)
    assert user(known(ca), bounded.issue("robot"), bounded, checked=True) == "robot"


def test_keys_of_each_kind_pass(known):
    for key in (tap.key(), ed25519.Ed25519PrivateKey.generate()):
        root = pki.Authority("Root", key=tap.key())
        assert user(known(root), root.issue("robot", key=key)) == "robot"


# --- Files that change -----------------------------------------------------------------------------------------------


def test_a_ca_that_is_added_or_taken_away_counts_at_once(ca, known, tmp_path, caplog):
    other = pki.Authority("Other CA")
    certificates = known(ca)
    assert "none of the CAs" in refusal(certificates, other.issue("robot"))
    ca.write(tmp_path / "ca.pem", other)
    assert user(certificates, other.issue("robot")) == "robot"
    other.write(tmp_path / "ca.pem")
    assert "none of the CAs" in refusal(certificates, ca.issue("robot"), checked=True)
    assert caplog.text == ""


@pytest.mark.parametrize("bad", [b"", b"no certificate", None])
def test_a_file_of_cas_that_went_bad_leaves_those_it_had_and_is_told_once(ca, known, tmp_path, caplog, bad):
    certificates = known(ca)
    certificates.check()
    if bad is None:
        (tmp_path / "ca.pem").unlink()
    else:
        (tmp_path / "ca.pem").write_bytes(bad)
    assert [user(certificates, ca.issue("robot")) for _ in range(3)] == ["robot"] * 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert "ca.pem" in line
    with pytest.raises(SettingInvalid, match=r"S3REG_CLIENT_CA.*ca\.pem"):
        certificates.check()
    fresh = Certificates(tmp_path / "ca.pem")
    assert "the file of CAs cannot be used" in refusal(fresh, ca.issue("robot"))


# --- Revocation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["PEM", "DER"])
def test_a_certificate_on_the_list_is_refused_and_another_is_not(ca, known, encoding):
    robot, other = ca.issue("robot"), ca.issue("other")
    certificates = known(ca, crls=[ca.crl(robot, encoding=encoding)])
    certificates.check()
    assert user(certificates, other) == "other"
    for checked in (False, True):
        assert "'CN=robot' is revoked" in refusal(certificates, robot, checked=checked)


def test_a_list_that_changes_counts_at_once(ca, known, tmp_path):
    robot = ca.issue("robot")
    certificates = known(ca, crls=[ca.crl()])
    for revoked in (False, True, False):
        (tmp_path / "crl.pem").write_bytes(ca.crl(robot) if revoked else ca.crl())
        if revoked:
            assert "is revoked" in refusal(certificates, robot)
        else:
            assert user(certificates, robot) == "robot"


def test_each_ca_on_the_way_needs_a_list_and_may_revoke_the_one_below(ca, sub, known):
    robot = sub.issue("robot")
    assert user(known(ca, crls=[ca.crl(), sub.crl()]), robot, sub) == "robot"
    assert "'CN=Build CA' is revoked" in refusal(known(ca, crls=[ca.crl(sub), sub.crl()]), robot, sub)
    assert "'CN=Build CA' is revoked" in refusal(known(ca, sub, crls=[ca.crl(sub), sub.crl()]), robot)
    for crls, missing in (([ca.crl()], "CN=Build CA"), ([sub.crl()], "CN=Company CA")):
        told = refusal(known(ca, crls=crls), robot, sub)
        assert f"the CRL of {missing!r} cannot be relied on: there is none" in told
    assert user(known(sub, crls=[sub.crl()]), robot) == "robot", "nobody is above who is trusted alone"


def test_a_list_that_the_ca_has_not_signed_counts_for_nothing(ca, known):
    robot = ca.issue("robot")
    stranger = pki.Authority("Company CA")
    assert "there is none that it has signed" in refusal(known(ca, crls=[stranger.crl()]), robot)
    assert user(known(ca, crls=[stranger.crl(robot), ca.crl()]), robot) == "robot"


def test_a_list_fails_closed_when_it_ends_and_says_so_once(ca, known, tmp_path, caplog):
    now = dt.datetime.now(dt.UTC)
    at = [now.timestamp()]
    robot = ca.issue("robot", now=now, ends=now + 20 * pki.DAY)
    certificates = known(ca, crls=[ca.crl(now=now, ends=now + pki.DAY)], clock=lambda: at[0])
    assert user(certificates, robot) == "robot"
    at[0] += 2 * pki.DAY.total_seconds()
    for _ in range(3):
        told = refusal(certificates, robot, checked=True)
        assert "the CRL of 'CN=Company CA' cannot be relied on: it ended on" in told
    (line,) = [record for record in caplog.records if "crl-not-usable" in record.getMessage()]
    assert line.levelno == logging.WARNING
    assert "crl.pem" in line.getMessage()
    (tmp_path / "crl.pem").write_bytes(ca.crl(now=now + 2 * pki.DAY))
    assert user(certificates, robot) == "robot"
    at[0] += 2 * pki.DAY.total_seconds()
    assert "it ended on" in refusal(certificates, robot)
    assert len([record for record in caplog.records if "crl-not-usable" in record.getMessage()]) == 2


def test_a_list_of_tomorrow_or_of_a_part_is_not_relied_on_and_revokes_all_the_same(ca, known):
    robot, other = ca.issue("robot"), ca.issue("other")
    tomorrow = ca.crl(robot, now=dt.datetime.now(dt.UTC) + pki.DAY)
    part = ca.crl(robot, extensions=[(x509.DeltaCRLIndicator(7), True)])
    for one, reason in ((tomorrow, "not valid before"), (part, "it is a part of a list")):
        assert reason in refusal(known(ca, crls=[one]), other)
        assert user(known(ca, crls=[one, ca.crl()]), other) == "other"
        assert "is revoked" in refusal(known(ca, crls=[one, ca.crl()]), robot)


def test_a_key_that_may_not_sign_lists_signs_none(known):
    is_ca = (x509.BasicConstraints(ca=True, path_length=None), True)
    other = pki.Authority("Other", extensions=[is_ca, (pki.usage("key_cert_sign"), True)])
    assert "none that it has signed" in refusal(known(other, crls=[other.crl()]), other.issue("robot"))


def test_a_list_without_an_end_is_not_relied_on(ca, known):
    """RFC 5280 §5.1.2.5 wants one; others make lists without."""
    whole = x509.load_pem_x509_crl(ca.crl())
    end = b"\x17\x0d" + f"{whole.next_update_utc:%y%m%d%H%M%SZ}".encode()
    assert whole.tbs_certlist_bytes.count(end) == 1
    said = der(0x30, content(whole.tbs_certlist_bytes).replace(end, b""))
    signature = ca.issued.key.sign(said, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    endless = der(0x30, said + algorithm + der(3, b"\0" + signature))
    assert "it does not say when it ends" in refusal(known(ca, crls=[endless]), ca.issue("robot"))


def der(tag, data):
    """A value in DER, of up to 65,535 bytes."""
    size = len(data).to_bytes(2, "big")
    for most, form in ((127, size[1:]), (255, b"\x81" + size[1:])):
        if len(data) <= most:
            return bytes([tag]) + form + data
    return bytes([tag]) + b"\x82" + size + data


def content(data):
    """Of a value in DER."""
    return data[2 + (data[1] & 0x7F if data[1] & 0x80 else 0) :]


@pytest.mark.parametrize(
    "bad", [b"", b"  \n", b"no list", b"0\x00", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", None]
)
def test_a_file_of_lists_that_cannot_be_read_fails_closed_and_says_so_once(ca, known, tmp_path, caplog, bad):
    certificates = known(ca, crls=[ca.crl()])
    assert user(certificates, ca.issue("robot")) == "robot"
    if bad is None:
        (tmp_path / "crl.pem").unlink()
    else:
        (tmp_path / "crl.pem").write_bytes(bad)
    for _ in range(3):
        assert "the CRL file cannot be used" in refusal(certificates, ca.issue("robot"))
    (line,) = [record for record in caplog.records if "file-not-usable" in record.getMessage()]
    assert (line.levelno, "crl.pem" in line.getMessage()) == (logging.WARNING, True)
    with pytest.raises(SettingInvalid, match=r"S3REG_CLIENT_CRL.*crl\.pem"):
        certificates.check()


def test_s27_a_list_signed_with_sha_1_is_not_relied_on(known, tmp_path):
    root = pki.Authority("Root", key=tap.key())
    certificates = known(root, crls=[root.crl_by_openssl(tmp_path, "sha1")])
    assert "none that it has signed" in refusal(certificates, root.issue("robot"))
    assert user(known(root, crls=[root.crl_by_openssl(tmp_path, "sha256")]), root.issue("robot")) == "robot"
