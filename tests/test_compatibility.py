"""The page of what went wrong elsewhere is true: every row that concerns us has a test, and every number is a row."""

import pytest

import compatibility
from compatibility import Row

ROWS = compatibility.rows()
TESTS = compatibility.carriers()


def test_every_row_of_the_three_lists_is_there_in_order():
    assert list(ROWS) == compatibility.numbers()


@pytest.mark.parametrize("number", ROWS)
def test_a_row_says_what_holds_or_why_nothing_has_to(number):
    row = ROWS[number]
    assert row.there
    assert bool(row.aside) != bool(row.here or row.later)


@pytest.mark.parametrize("number", [number for number, row in ROWS.items() if row.here])
def test_a_row_that_concerns_us_has_a_test(number):
    assert TESTS.get(number), f"no test's name begins with test_{number.lower()}_"


@pytest.mark.parametrize("number", [number for number, row in ROWS.items() if not row.here])
def test_a_row_without_a_promise_has_no_test(number):
    assert number not in TESTS, "say in tests/compatibility.toml what holds here"


def test_every_number_in_a_tests_name_is_a_row():
    assert set(TESTS) <= set(ROWS)


def test_the_page_is_what_the_program_prints():
    assert compatibility.PAGE.read_text() == compatibility.text(ROWS, TESTS), "run make reference"


def test_numbers_are_found_in_functions_and_in_classes_and_only_in_front(tmp_path):
    source = (
        "def test_s3_one(): ...\nclass TestMany:\n    def test_s19_c9_two(self): ...\ndef test_of_s4_a_store(): ...\n"
    )
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "test_it.py").write_text(source)
    assert compatibility.carriers(tmp_path) == {
        "S3": [("store/test_it.py", "test_s3_one")],
        "S19": [("store/test_it.py", "test_s19_c9_two")],
        "C9": [("store/test_it.py", "test_s19_c9_two")],
    }


def test_a_row_is_printed_with_its_tests_or_its_reason():
    table = {
        "S1": Row("It broke.", here="It holds."),
        "T2": Row("So.", later="that"),
        "T3": Row("So.", here="Half.", later="that"),
        "C3": Row("No.", aside="Not ours."),
    }
    printed = compatibility.text(table, {"S1": [("a.py", "test_s1_x"), ("b.py", "test_s1_y"), ("a.py", "test_s1_z")]})
    tests = "[a.py](../../tests/a.py) `test_s1_x`, `test_s1_z`<br>[b.py](../../tests/b.py) `test_s1_y`"
    assert f"| S1 | It broke. | It holds. | {tests} |" in printed
    assert "| T2 | So. | Comes with that. |  |" in printed
    assert "| T3 | So. | Half. The rest comes with that. |  |" in printed
    assert "| C3 | No. | Does not concern us. Not ours. |  |" in printed
    assert "2 of 4 rows" in printed
