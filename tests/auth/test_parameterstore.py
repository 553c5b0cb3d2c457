"""The root token in the Parameter Store, asked of a server that speaks its API (moto), and of one that refuses."""

import http.server
import json
import secrets
import threading
import uuid

import boto3
import pytest

import servers
from s3reg.auth.awstoken import REREAD_SECONDS, RETRY_SECONDS
from s3reg.auth.parameterstore import ParameterStore
from s3reg.auth.roottoken import RootTokens
from s3reg.auth.secretsmanager import SecretsManager
from s3reg.errors import RootTokenUnreadable

OLD, NEW = (secrets.token_urlsafe(12) for _ in range(2))


@pytest.fixture
def environment(moto, monkeypatch):
    """Where AWS is, and who asks, as every AWS tool finds it."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**moto.environment(), "AWS_ENDPOINT_URL_SSM": moto.endpoint}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def clients():
    """Making one takes a while."""
    return {}


@pytest.fixture
def put(environment, clients):
    """`put(value, …)`: a parameter's name."""

    def client(region=servers.REGION):
        if region not in clients:
            clients[region] = boto3.session.Session().client("ssm", region_name=region)
            # moto loads what it takes for this now: later it would be slower than a registry waits.
            clients[region].get_parameters_by_path(Path="/")
        return clients[region]

    def put(value, name=None, kind="SecureString", region=servers.REGION):
        name = name or f"/registry/{uuid.uuid4().hex}"
        client(region).put_parameter(Name=name, Value=value, Type=kind, Overwrite=True)
        return name

    client()
    return put


@pytest.fixture
def roots(clock):
    """`roots(name)`: the root tokens of a registry whose setting is that."""

    def of(name):
        return RootTokens(ParameterStore(name, clock=clock).tokens)

    return of


def held(roots, *tokens):
    return [roots.holds(token.encode()) for token in tokens]


def test_its_first_line_is_the_token_and_its_second_the_one_before(put):
    roots = RootTokens.named(parameter=put(f"{NEW}\n{OLD}\n"))
    roots.check()
    assert held(roots, NEW, OLD, f"{NEW}\n{OLD}", "") == [True, True, False, False]


def test_s26_a_token_of_any_characters_is_held_as_it_is(put, roots):
    token = ' :@/%+" ключ-é-日本 '
    assert held(roots(put(token)), token, token.strip()) == [True, False]


def test_a_rotation_refuses_nobody_and_counts_within_a_minute(put, roots, clock):
    name = put(OLD)
    registry = roots(name)
    assert held(registry, OLD, NEW) == [True, False]
    put(f"{NEW}\n{OLD}", name)
    assert held(registry, OLD, NEW) == [True, False], "what was read lately is not read again"
    clock.now += REREAD_SECONDS + 1
    assert held(registry, OLD, NEW) == [True, True]
    put(NEW, name)
    clock.now += REREAD_SECONDS + 1
    assert held(registry, OLD, NEW) == [False, True]


def test_a_parameter_is_found_by_its_arn_in_the_arns_region(put, roots, monkeypatch):
    name = put(OLD, region="eu-central-1")
    monkeypatch.delenv("AWS_REGION")
    assert held(roots(f"arn:aws:ssm:eu-central-1:123456789012:parameter{name}"), OLD) == [True]


def test_where_no_region_is_said_it_is_asked_for(put, roots, monkeypatch):
    name = put(OLD)
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(RootTokenUnreadable, match="AWS_REGION"):
        roots(name).check()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (("too-short",), "at least 10 characters"),
        ((f"{NEW}\nshort",), "at least 10 characters"),
        ((f"{NEW}\n{OLD}\n{OLD}2",), "3 lines, not one or two"),
        ((NEW, None, "String"), "it is a String, which is not encrypted; store the token as a SecureString"),
    ],
    ids=range(4),
)
def test_a_value_that_is_no_token_is_refused_at_the_start_without_being_told(given, reason, put, roots, caplog):
    registry = roots(put(*given))
    with pytest.raises(RootTokenUnreadable, match=reason) as e:
        registry.check()
    assert not any(line in str(e.value) + caplog.text for line in given[0].split("\n"))


def test_a_parameter_that_there_is_not_is_said_and_read_once_it_is_there(put, roots, clock):
    name = f"/registry/{uuid.uuid4().hex}"
    registry = roots(name)
    with pytest.raises(RootTokenUnreadable, match="there is no such parameter") as e:
        registry.check()
    assert name in str(e.value)
    put(OLD, name)
    clock.now += RETRY_SECONDS + 1
    assert held(registry, OLD) == [True]


def test_a_failure_keeps_what_was_read_and_is_told_once(put, roots, clock, caplog):
    name = put(OLD)
    registry = roots(name)
    assert held(registry, OLD) == [True]
    put("none", name)
    for _ in range(3):
        clock.now += REREAD_SECONDS + 1
        assert held(registry, OLD, "none") == [True, False]
    (line,) = [one.getMessage() for one in caplog.records if one.name == "s3reg"]
    assert "root-secret-not-usable" in line
    assert name in line
    assert OLD not in line


# --- What a service says that does not give it -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def refusing():
    """`refusing.code`: what a service of AWS answers whoever asks; its words hold what nobody should read."""

    class Refusal(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"__type": f"com.amazonaws#{server.code}", "message": f"no; it would be {OLD}"}).encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=[ParameterStore, SecretsManager])
def service(request, environment, monkeypatch, refusing, clock):
    for name in ("SSM", "SECRETS_MANAGER"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", f"http://127.0.0.1:{refusing.server_port}")
    return request.param("/registry/root", clock=clock)


NEXT_STEPS = {
    "AccessDeniedException": "allow the credentials that s3reg runs with",
    "ThrottlingException": "it is asked too often; it is tried again",
    "ExpiredTokenException": "have expired",
    "UnrecognizedClientException": "it does not know the AWS credentials",
    "InvalidKeyId": "InvalidKeyId",
}
RIGHTS = {"Systems Manager": "ssm:GetParameter", "Secrets Manager": "secretsmanager:GetSecretValue"}


def test_a_refusal_is_said_with_what_to_do_and_none_of_the_services_words(service, refusing, clock):
    for code, next_step in NEXT_STEPS.items():
        refusing.code = code
        clock.now += RETRY_SECONDS + 1
        with pytest.raises(RootTokenUnreadable, match=next_step) as e:
            service.tokens()
        assert f"'/registry/root': {service.called} answers {code}" in str(e.value)
        assert OLD not in str(e.value)
        assert (RIGHTS[service.called] in str(e.value)) == (code == "AccessDeniedException")


def test_a_service_that_does_not_answer_is_said(environment, roots, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", f"http://127.0.0.1:{servers.free_port()}")
    with pytest.raises(RootTokenUnreadable, match="cannot be asked"):
        roots("/registry/root").check()


def test_that_there_are_no_credentials_is_said(environment, roots, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(RootTokenUnreadable, match="there are no AWS credentials"):
        roots("/registry/root").check()
