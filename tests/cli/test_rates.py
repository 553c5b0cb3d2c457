"""Rates as people write them."""

import pytest

from s3reg.cli.rates import LEAST, parse


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1000", 1000),
        ("500K", 500_000),
        ("500k", 500_000),
        ("10M", 10_000_000),
        ("10MB", 10_000_000),
        ("10 MB/s", 10_000_000),
        ("1.5G", 1_500_000_000),
        ("4Ki", 4096),
        ("2Mi", 2_097_152),
        ("2MiB", 2_097_152),
        ("1Gi", 2**30),
        ("80Mbit", 10_000_000),
        ("80Mbit/s", 10_000_000),
        ("0.1Gbit", 12_500_000),
        ("1Mibit", 131_072),
        (" 8000bit ", 1000),
    ],
)
def test_a_rate_is_bytes_or_bits_a_second_with_decimal_or_binary_units(text, rate):
    assert parse(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fast",
        "-1M",
        "+1M",
        "1,5M",
        "10Mb",
        "10m",
        "10T",
        "1e6",
        "0x10",
        "1M/h",
        "1 0M",
        "M",
        "10Kb",
        "\u0661\u0660M",
        "1" * 20,
    ],
)
def test_what_could_be_meant_otherwise_is_refused_with_what_to_write(text):
    with pytest.raises(ValueError, match=r"500K, 10M or .* bits a second like 80Mbit"):
        parse(text)


@pytest.mark.parametrize("text", ["0", "0M", str(LEAST - 1), "7999bit", "0.0001Mi"])
def test_no_rate_is_so_low_that_a_transfer_never_ends(text):
    with pytest.raises(ValueError, match="less than 1000 bytes a second"):
        parse(text)


@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_rate_that_is_none_is_told_with_the_place_where_it_was_given(command, s3reg, monkeypatch):
    more = ["-t", "v1"]
    done = s3reg(command, "base", *more, "--limit-rate", "quick")
    assert done.code == 2
    assert "--limit-rate" in done.err
    assert "80Mbit" in done.err
    monkeypatch.setenv("S3REG_LIMIT_RATE", "quick")
    done = s3reg(command, "base", *more)
    assert done.code == 2
    assert "S3REG_LIMIT_RATE" in done.err


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1000000"])
def test_a_number_of_jobs_that_makes_no_sense_is_refused(jobs, s3reg, monkeypatch):
    done = s3reg("pull", "base", "--jobs", jobs)
    assert done.code == 2
    assert "--jobs" in done.err
    monkeypatch.setenv("S3REG_JOBS", jobs)
    assert "S3REG_JOBS" in s3reg("pull", "base").err
