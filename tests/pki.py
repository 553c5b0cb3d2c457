"""Certificate authorities, certificates and revocation lists, made at run time.

    ca = Authority()
    robot = ca.issue("robot", ou=["ci", "qa"])
    robot.write(tmp_path / "robot")           # robot.pem, robot.key
    ca.write(tmp_path / "ca.pem")
    (tmp_path / "crl.pem").write_bytes(ca.crl(robot))

Keys are elliptic (P-256): making one takes no time. What a test needs beyond, it says with `extensions`, `now` and `ends`;
what cryptography does not sign any more (SHA-1, certificates of X.509's first version) is made `by_openssl`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import servers

if TYPE_CHECKING:
    from collections.abc import Iterable

DAY = dt.timedelta(days=1)
CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
Extension = tuple[x509.ExtensionType, bool]
"""And whether it is critical."""


def usage(*allowed: str) -> x509.KeyUsage:
    """What a key may be used for, and nothing else."""
    return x509.KeyUsage(**{name: name in allowed for name in _USES})


def name(cn: str | None, ou: Iterable[str] = (), o: Iterable[str] = ()) -> x509.Name:
    """A subject."""
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in o]
    parts += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, one) for one in ou]
    parts += [x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn is not None else []
    return x509.Name(parts)


def alternative(*hosts: str) -> Extension:
    """The names of a server, by default of this machine's."""
    found: list[x509.GeneralName] = []
    for host in hosts or ("localhost", "127.0.0.1"):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(found), False


@dataclass
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any = field(repr=False)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def key_pem(self, password: bytes | None = None) -> bytes:
        """PKCS #8."""
        sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)

    def write(self, stem: Path, *chain: Authority, password: bytes | None = None) -> tuple[str, str]:
        """The files of the certificate, `chain` behind it, and of the key."""
        certificate, key = stem.with_name(f"{stem.name}.pem"), stem.with_name(f"{stem.name}.key")
        certificate.write_bytes(b"".join([self.pem, *(one.pem for one in chain)]))
        key.write_bytes(self.key_pem(password))
        return str(certificate), str(key)


class Authority:
    """A CA. `parent`: who issued its certificate, else itself."""

    def __init__(
        self,
        cn: str = "Test CA",
        *,
        parent: Authority | None = None,
        extensions: Iterable[Extension] | None = None,
        key: Any = None,
        now: dt.datetime | None = None,
        ends: dt.datetime | None = None,
    ) -> None:
        now = now or dt.datetime.now(dt.UTC)
        key = key or ec.generate_private_key(ec.SECP256R1())
        self.subject = name(cn)
        if extensions is None:
            ca = x509.BasicConstraints(ca=True, path_length=None)
            extensions = [(ca, True), (usage("key_cert_sign", "crl_sign"), True)]
        issuer = parent.subject if parent else self.subject
        signer = parent.issued.key if parent else key
        valid = (now - DAY, ends or now + 30 * DAY)
        self.issued = _signed(self.subject, issuer, valid, extensions, key=key, signer=signer)

    @property
    def pem(self) -> bytes:
        return self.issued.pem

    @property
    def der(self) -> bytes:
        return self.issued.der

    def write(self, file: Path, *others: Authority) -> Path:
        """A file of this CA and others."""
        file.write_bytes(b"".join(one.pem for one in (self, *others)))
        return file

    def issue(
        self,
        cn: str | None = "robot",
        *,
        ou: Iterable[str] = (),
        o: Iterable[str] = (),
        subject: x509.Name | None = None,
        extensions: Iterable[Extension] | None = None,
        now: dt.datetime | None = None,
        ends: dt.datetime | None = None,
        key: Any = None,
    ) -> Issued:
        """A client's certificate, from a day before `now` (until a day after it)."""
        now = now or dt.datetime.now(dt.UTC)
        subject = name(cn, ou, o) if subject is None else subject
        extensions = [(CLIENTS, False)] if extensions is None else extensions
        key = key or ec.generate_private_key(ec.SECP256R1())
        return _signed(
            subject, self.subject, (now - DAY, ends or now + DAY), extensions, key=key, signer=self.issued.key
        )

    def by_openssl(self, folder: Path, subject: str = "/CN=robot", *options: str) -> Issued:
        """A certificate that `openssl req` and `openssl x509` make, with these options of the latter."""
        openssl = servers.needs("openssl")
        mine, _ = self.issued.write(folder / "openssl-ca")
        key, request, made = (str(folder / f"openssl-{one}") for one in ("key", "request", "made"))

        def run(*arguments: str) -> None:
            subprocess.run([openssl, *arguments], check=True, capture_output=True)

        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        run("req", *curve, "-nodes", "-keyout", key, "-subj", subject, "-out", request)
        serial = str(x509.random_serial_number())
        run("x509", "-req", "-in", request, "-CA", mine, "-CAkey", mine.removesuffix("pem") + "key", *options,
            "-set_serial", serial, "-out", made)  # fmt: skip
        loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
        return Issued(x509.load_pem_x509_certificate(Path(made).read_bytes()), loaded)

    def crl_by_openssl(self, folder: Path, digest: str) -> bytes:
        """An empty list that `openssl ca` makes."""
        mine, key = self.issued.write(folder / "openssl-ca")
        (folder / "openssl-index").touch()
        (folder / "openssl.cnf").write_text(f"[ca]\ndefault_ca=x\n[x]\ndatabase={folder}/openssl-index\n")
        command = [servers.needs("openssl"), "ca", "-gencrl", "-config", str(folder / "openssl.cnf"), "-md", digest]
        return subprocess.run(
            [*command, "-cert", mine, "-keyfile", key, "-crldays", "1"], check=True, capture_output=True
        ).stdout

    def server(self, *hosts: str, now: dt.datetime | None = None, ends: dt.datetime | None = None) -> Issued:
        """The certificate of a server of these names."""
        return self.issue("server", extensions=[alternative(*hosts), (SERVERS, False)], now=now, ends=ends)

    def crl(
        self,
        *revoked: Issued | Authority,
        now: dt.datetime | None = None,
        ends: dt.datetime | None = None,
        extensions: Iterable[Extension] = (),
        encoding: str = "PEM",
    ) -> bytes:
        """A list of what it has revoked, from an hour before `now` (for a day)."""
        now = now or dt.datetime.now(dt.UTC)
        made = x509.CertificateRevocationListBuilder(self.subject)
        made = made.last_update(now - DAY / 24).next_update(ends or now + DAY)
        for one in revoked:
            certificate = one.issued.certificate if isinstance(one, Authority) else one.certificate
            row = x509.RevokedCertificateBuilder(certificate.serial_number, now - DAY / 24)
            made = made.add_revoked_certificate(row.build())
        for extension, critical in extensions:
            made = made.add_extension(extension, critical)
        form = getattr(serialization.Encoding, encoding)
        return made.sign(self.issued.key, hashes.SHA256()).public_bytes(form)


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    valid: tuple[dt.datetime, dt.datetime],
    extensions: Iterable[Extension],
    *,
    key: Any,
    signer: Any,
) -> Issued:
    made = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), *valid)
    for extension, critical in extensions:
        made = made.add_extension(extension, critical)
    return Issued(made.sign(signer, hashes.SHA256()), key)
