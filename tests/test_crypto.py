"""Message authentication, and the private half of API keys."""

import base64
import hashlib
import hmac
import itertools

import pytest

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
