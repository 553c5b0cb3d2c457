"""Message authentication, and both halves of API keys."""

import base64
import hashlib
import hmac
import itertools
import textwrap

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import tap
from s3reg import crypto

SECRET = bytes(range(32))


def test_a_mac_is_the_hmac_of_the_parts_each_behind_its_length():
    message = b"\x03" + bytes(7) + b"GET" + b"\x02" + bytes(7) + "ä".encode()
    expected = hmac.new(SECRET, message, hashlib.sha256).digest()
    made = crypto.mac(SECRET, "GET", "ä")
    assert base64.urlsafe_b64decode(made + "=") == expected
    assert len(made) == 43


def test_no_two_ways_to_cut_a_text_give_one_mac():
    cuts = [("abc",), ("ab", "c"), ("a", "bc"), ("a", "b", "c"), ("abc", ""), ("", "abc"), (), ("",), ("", "")]
    made = [crypto.mac(SECRET, *parts) for parts in cuts]
    assert len(set(made)) == len(cuts)


def test_another_secret_gives_another_mac():
    assert crypto.mac(SECRET, "a") != crypto.mac(SECRET[::-1], "a")
    assert crypto.new_secret() != crypto.new_secret()
    assert len(crypto.new_secret()) == crypto.SECRET_BYTES == 32


@pytest.mark.parametrize("text", ["\ud800", "\0", "é" * 1000])
def test_any_text_can_be_signed_and_compared(text):
    assert crypto.mac(SECRET, text) != crypto.mac(SECRET, "")
    assert crypto.same(text, text)
    assert not crypto.same(text, "a")


def test_same_is_equality():
    for a, b in itertools.product(["", "a", "b", "ab"], repeat=2):
        assert crypto.same(a, b) == (a == b)


def test_a_private_key_opens_what_its_public_half_sealed_and_nothing_else():
    known = crypto.PrivateKey(tap.pem(tap.key()))
    assert known.open(tap.key().public_key().encrypt(b"secret", tap.OAEP)) == b"secret"
    for sealed in (tap.key("another").public_key().encrypt(b"secret", tap.OAEP), b"", bytes(256), b"\xff" * 256):
        with pytest.raises(ValueError):
            known.open(sealed)


# --- The public half ---


def spki(key, encoding=Encoding.DER):
    return key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


PUBLIC = tap.key().public_key()
LINE = base64.b64encode(spki(PUBLIC))


@pytest.mark.parametrize(
    "written",
    [
        spki(PUBLIC),
        LINE,
        LINE + b"\n",
        base64.encodebytes(spki(PUBLIC)),
        "\r\n".join(textwrap.wrap(LINE.decode(), 64)).encode(),
        spki(PUBLIC, Encoding.PEM),
        b"\n" + spki(PUBLIC, Encoding.PEM).replace(b"\n", b"\r\n"),
    ],
    ids=["DER", "base64", "a line", "MIME", "PEM's body", "PEM", "PEM of Windows"],
)
def test_a_public_key_is_taken_however_it_is_written(written):
    known = crypto.PublicKey(written)
    assert known.der == spki(PUBLIC)
    assert known.fingerprint == hashlib.sha256(spki(PUBLIC)).hexdigest()
    assert tap.key().decrypt(known.seal(b"x" * 64), tap.OAEP) == b"x" * 64


def test_a_public_key_of_up_to_8192_bits_is_taken():
    for bits in (2048, 4096, 8192):
        large = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 12345).public_key()
        assert crypto.PublicKey(spki(large)).der == spki(large)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"", "no public key"),
        (b"hello", "no public key"),
        (b"\xff" * 300, "no public key"),
        (LINE[:-20], "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (tap.pem(tap.key()), "no public key"),
        (tap.printed(tap.key()).encode(), "no public key"),
        (LINE * 100, "larger"),
        (spki(ec.generate_private_key(ec.SECP256R1()).public_key()), "no RSA key"),
        (spki(ed25519.Ed25519PrivateKey.generate().public_key(), Encoding.PEM), "no RSA key"),
        (spki(rsa.RSAPublicNumbers(65537, (1 << 1023) + 12345).public_key()), "it has 1024 bits; use 2048 to 8192"),
        (spki(rsa.RSAPublicNumbers(65537, (1 << 8192) + 12345).public_key()), "it has 8193 bits; use 2048 to 8192"),
    ],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_usable_public_key_is_refused_in_words_that_hold_nothing_of_it(written, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        crypto.PublicKey(written)
    assert len(str(refused.value)) < 100


def test_a_new_key_is_a_pair_of_2048_bits():
    private, public = crypto.new_key()
    known = crypto.PublicKey(public)
    assert crypto.PrivateKey(private).open(known.seal(b"secret")) == b"secret"
    assert crypto.PrivateKey(base64.b64encode(private)).open(known.seal(b"secret")) == b"secret"
    assert len(known.seal(b"")) == 2048 // 8
    assert base64.b64encode(private).startswith(b"MII")
