"""Fixtures that every test may ask for, and the last lines of a run: what could not be tested, and where."""

import logging
import os
import shutil
import signal
from collections import defaultdict
from pathlib import Path

import hypothesis
import pytest

# Asserts in the contracts explain themselves like those of a test. Before anything imports them.
pytest.register_assert_rewrite("contracts")

import secrets_seen  # noqa: E402
import servers  # noqa: E402

# The same examples in every run, so that a red one can be had again; a campaign looks further, and elsewhere each time.
# Neither measures time: a busy machine is no defect.
UNTIMED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("sample", derandomize=True, **UNTIMED)
hypothesis.settings.register_profile("campaign", max_examples=2000, **UNTIMED)
hypothesis.settings.load_profile("campaign" if os.environ.get("S3REG_TEST_CAMPAIGN") else "sample")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what it runs in the background, and so would each command here start that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_not_tested: set[str] = set()
_lacking: dict[str, set[str]] = defaultdict(set)


@pytest.fixture(scope="session", autouse=True)
def _own_aws_settings():
    """No test depends on, or reaches, what the person at this machine has set up for AWS."""
    access_key, secret_key = servers.credentials()
    secrets_seen.keep(secret_key, always=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_ACCESS_KEY_ID", access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
        yield


@pytest.fixture(autouse=True)
def _own_log_settings():
    """What one test sets up for the log, no other sees."""
    ours = logging.getLogger("s3reg")
    kept = [(log, log.level, list(log.handlers)) for log in (logging.getLogger(), ours)]
    ours.setLevel(logging.INFO)  # as a registry logs: else there would be little to search for secrets
    yield
    for log, level, handlers in kept:
        log.setLevel(level)
        log.handlers[:] = handlers


@pytest.fixture
def in_memory(tmp_path):
    """An empty folder, in memory where the machine has such: for what does not ask whether the disk has it."""
    memory = Path("/dev/shm")
    folder = (
        memory / f"{tmp_path.parent.name}-{tmp_path.name}-{os.getpid()}" if memory.is_dir() else tmp_path / "memory"
    )
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def moto():
    """moto as a `servers.S3Server`."""
    with servers.moto() as server:
        yield server


@pytest.fixture(scope="session")
def moto_url(moto):
    return moto.endpoint


@pytest.fixture(scope="session")
def minio(tmp_path_factory):
    """MinIO, or what stands in for it, as a `servers.S3Server`: endpoint, access_key, secret_key."""
    with servers.minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture
def bucket():
    """`bucket(server)` makes an empty bucket and gives its name."""
    with servers.buckets() as make:
        yield make


@pytest.fixture(scope="class")
def class_bucket():
    """`bucket` for what the tests of a class share."""
    with servers.buckets() as make:
        yield make


def pytest_configure(config):
    config.pluginmanager.register(secrets_seen.Plugin(secrets_seen.seen))


def pytest_runtest_logreport(report):
    """Collects from this process and, under xdist, from every worker."""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith(servers.NOT_TESTED):
            _not_tested.add(reason)
        if reason.startswith("lacking: "):
            _lacking[report.nodeid.rpartition("::")[0]].add(reason.removeprefix("lacking: "))


def pytest_sessionfinish(session):
    if os.environ.get("CI") and _not_tested and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config):
    """Here and not in the summary: these are to be the last lines."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    for where, promises in sorted(_lacking.items()):
        reporter.write_line(f"not promised by the server of {where}: {', '.join(sorted(promises))}")
    for line in sorted(_not_tested):
        reporter.write_line(line)
