"""Commands that start at once, for all of these tests."""

import pytest

from campaign.forks import forks


@pytest.fixture(scope="session")
def launch():
    """What `campaign.forks` gives."""
    with forks() as start:
        yield start
