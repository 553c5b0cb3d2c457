"""The root token in Secrets Manager, asked with boto3 of a server that speaks its API (moto)."""

import secrets
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor, wait

import boto3
import pytest

import servers
from s3reg.auth.awstoken import REREAD_SECONDS, RETRY_SECONDS, STALE_SECONDS
from s3reg.auth.roottoken import RootTokens
from s3reg.auth.secretsmanager import SecretsManager
from s3reg.errors import RootTokenUnreadable

OLD, NEW, NEWEST = (secrets.token_urlsafe(12) for _ in range(3))


@pytest.fixture
def environment(moto, monkeypatch):
    """Where AWS is, and who asks, as every AWS tool finds it."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**moto.environment(), "AWS_ENDPOINT_URL_SECRETS_MANAGER": moto.endpoint}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def aws(environment, clients):
    """`aws(region)`: Secrets Manager as whoever administers it uses it."""

    def client(region=servers.REGION):
        if region not in clients:
            clients[region] = boto3.session.Session().client("secretsmanager", region_name=region)
        return clients[region]

    return client


@pytest.fixture(scope="module")
def clients():
    """Making one takes a while."""
    return {}


@pytest.fixture
def made(aws):
    """`made(value)`: a new secret's name."""

    def make(value):
        name = f"registry/root-{uuid.uuid4().hex}"
        kind = "SecretString" if isinstance(value, str) else "SecretBinary"
        aws().create_secret(Name=name, **{kind: value})
        return name

    return make


@pytest.fixture
def roots(clock):
    """`roots(name)`: the root tokens of a registry whose setting is that."""

    def of(name):
        return RootTokens(SecretsManager(name, clock=clock).tokens)

    return of


def held(roots, *tokens):
    return [roots.holds(token.encode()) for token in tokens]


@pytest.mark.parametrize("value", [f"{OLD}\n", f"{OLD}\r\n".encode()], ids=["text", "bytes"])
def test_the_secrets_value_is_the_token(value, made):
    roots = RootTokens.named(secret=made(value))
    roots.check()
    assert held(roots, OLD, f"{OLD}\n", NEW) == [True, False, False]


@pytest.mark.parametrize("token", [' :@/%+" ключ-é-日本 ', '["a", "list"]'], ids=ascii)
def test_s26_a_token_of_any_characters_is_held_as_it_is(token, made, roots):
    assert held(roots(made(token)), token, token.strip() + "x") == [True, False]


def test_a_rotation_refuses_nobody_and_ends_a_rotation_later(made, aws, roots, clock):
    name = made(OLD)
    registry = roots(name)
    assert held(registry, OLD, NEW) == [True, False]
    aws().put_secret_value(SecretId=name, SecretString=NEW)
    assert held(registry, OLD, NEW) == [True, False], "what was read lately is not read again"
    clock.now += REREAD_SECONDS + 1
    assert held(registry, OLD, NEW) == [True, True]
    aws().put_secret_value(SecretId=name, SecretString=NEWEST)
    clock.now += REREAD_SECONDS + 1
    assert held(registry, OLD, NEW, NEWEST) == [False, True, True]


def test_a_secret_is_found_by_its_arn_in_the_arns_region(aws, roots, monkeypatch):
    arn = aws("eu-central-1").create_secret(Name=f"root-{uuid.uuid4().hex}", SecretString=OLD)["ARN"]
    assert ":eu-central-1:" in arn
    assert held(roots(arn), OLD) == [True]
    monkeypatch.delenv("AWS_REGION")
    assert held(roots(arn), OLD) == [True]


def test_where_no_region_is_said_it_is_asked_for(made, roots, monkeypatch):
    name = made(OLD)
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(RootTokenUnreadable, match="AWS_REGION"):
        roots(name).check()


@pytest.mark.parametrize(
    ("value", "reason"),
    [("too-short\n", "at least 10 characters"), (f'{{"token": "{OLD}"}}', "JSON object")],
    ids=range(2),
)
def test_a_value_that_is_no_token_is_refused_at_the_start_without_being_told(value, reason, made, roots, caplog):
    registry = roots(made(value))
    for call in (registry.check, lambda: registry.holds(value.encode())):
        with pytest.raises(RootTokenUnreadable, match=reason) as e:
            call()
        assert value.strip() not in str(e.value) + caplog.text
        assert OLD not in str(e.value) + caplog.text


def test_a_first_value_that_was_none_does_not_stand_in_the_way_of_a_second(made, aws, roots, clock, caplog):
    name = made("changeme")
    aws().put_secret_value(SecretId=name, SecretString=OLD)
    registry = roots(name)
    for _ in range(3):
        assert held(registry, OLD, "changeme") == [True, False]
        clock.now += REREAD_SECONDS + 1
    (line,) = [one.getMessage() for one in caplog.records if one.name == "s3reg"]
    assert "AWSPREVIOUS is left out" in line
    assert "changeme" not in line


def test_a_secret_that_there_is_not_is_said_and_read_once_it_is_there(aws, environment, roots, clock):
    name = f"registry/root-{uuid.uuid4().hex}"
    registry = roots(name)
    with pytest.raises(RootTokenUnreadable, match="no such secret") as e:
        registry.check()
    assert name in str(e.value)
    aws().create_secret(Name=name, SecretString=OLD)
    clock.now += RETRY_SECONDS + 1
    assert held(registry, OLD) == [True]


def test_a_failure_keeps_what_was_read_and_is_told_once(made, aws, roots, clock, caplog):
    name = made(OLD)
    registry = roots(name)
    assert held(registry, OLD) == [True]
    aws().delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    for _ in range(3):
        clock.now += REREAD_SECONDS + 1
        assert held(registry, OLD, NEW) == [True, False]
    (line,) = [one.getMessage() for one in caplog.records if one.name == "s3reg"]
    assert "root-secret-not-usable" in line
    assert name in line
    assert OLD not in line
    aws().create_secret(Name=name, SecretString=NEW)
    clock.now += REREAD_SECONDS + 1
    assert held(registry, OLD, NEW) == [False, True]


def test_a_secrets_manager_that_does_not_answer_is_said(environment, roots, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{servers.free_port()}")
    with pytest.raises(RootTokenUnreadable, match="cannot be asked"):
        roots("registry/root").check()


class Slow:
    """Reads as it would, once it may go on."""

    def __init__(self, source):
        self.reading, self.go_on, self._read = threading.Event(), threading.Event(), source._read
        source._read = self

    def __call__(self):
        self.reading.set()
        assert self.go_on.wait(60)
        return self._read()


def test_calls_beside_the_one_that_reads_again_go_on_with_what_is_known(made, clock):
    source = SecretsManager(made(OLD), clock=clock)
    assert source.tokens() == [OLD.encode()]
    clock.now += REREAD_SECONDS + 1
    slow = Slow(source)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(source.tokens)
        assert slow.reading.wait(60)
        assert source.tokens() == [OLD.encode()]
        slow.go_on.set()
        assert first.result() == [OLD.encode()]


def test_after_a_night_without_a_call_those_beside_the_first_wait_for_what_it_reads(made, aws, clock):
    name = made(OLD)
    source = SecretsManager(name, clock=clock)
    assert source.tokens() == [OLD.encode()]
    aws().put_secret_value(SecretId=name, SecretString=NEW)
    clock.now += STALE_SECONDS + 1
    slow = Slow(source)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(source.tokens)
        assert slow.reading.wait(60)
        second = pool.submit(source.tokens)
        wait([second], 0.1)  # it would be done, if it did not wait
        slow.go_on.set()
        assert first.result() == second.result() == [NEW.encode(), OLD.encode()]
