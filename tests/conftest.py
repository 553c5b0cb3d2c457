"""What all tests share: asserts in the contracts explain themselves like those of a test."""

import pytest

pytest.register_assert_rewrite("contracts")
