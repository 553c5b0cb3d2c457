"""When two names of a store are one place."""

import pytest

from s3reg.store.places import same_place

MINIO = "s3://b at http://minio:9000"


@pytest.mark.parametrize(
    "other",
    [
        MINIO,
        "s3://b at https://minio:9000",
        "s3://b at http://MINIO:9000",
    ],
)
def test_a_server_is_the_same_by_host_and_port_with_or_without_tls(other):
    assert same_place(MINIO, other)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://s3.eu-west-1.amazonaws.com",
        "https://s3.dualstack.eu-west-1.amazonaws.com",
        "https://s3.amazonaws.com",
        "https://s3-us-west-2.amazonaws.com",
        "https://s3-fips.dualstack.us-east-1.amazonaws.com",
        "https://s3-accelerate.dualstack.amazonaws.com",
        "https://b.s3.eu-west-1.amazonaws.com",
        "https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com",
    ],
)
def test_in_aws_a_buckets_name_is_enough(endpoint):
    assert same_place("s3://b/p", f"s3://b/p at {endpoint}")
    assert same_place(f"s3://b/p at {endpoint}", "s3://b/p at https://s3.us-east-2.amazonaws.com")
    assert not same_place("s3://b/p", f"s3://c/p at {endpoint}")


@pytest.mark.parametrize(
    "other",
    [
        "s3://b",
        "s3://b/p at http://minio:9000",
        "s3://c at http://minio:9000",
        "s3://b at http://minio:9001",
        "s3://b at http://minio",
        "s3://b at http://minio:9000/gateway",
        "s3://b at http://10.0.0.5:9000",
        "s3://b at http://minio:9000 (copy 1a2b, about to be adopted)",
        "directory",
        "",
    ],
)
def test_what_may_be_another_bucket_is_no_same_place(other):
    assert not same_place(MINIO, other)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://s3.cn-north-1.amazonaws.com.cn",
        "https://s3.us-gov-west-1.amazonaws.com",
        "https://amazonaws.com.evil.example",
        "https://evilamazonaws.com",
    ],
)
def test_names_of_other_clouds_are_not_awss(endpoint):
    assert not same_place("s3://b", f"s3://b at {endpoint}")


@pytest.mark.parametrize(
    "host",
    [
        "ec2-{}.compute-1.amazonaws.com",
        "ec2-{}.eu-west-1.compute.amazonaws.com",
        "minio-{}.us-east-1.elb.amazonaws.com",
        "s3-minio-{}.us-east-1.elb.amazonaws.com",
        "s3-minio-{}.elb.us-east-1.amazonaws.com",
        "vpce-{}-abc.vpce-svc-def.us-east-1.vpce.amazonaws.com",
    ],
)
def test_a_server_of_ones_own_on_a_machine_of_aws_is_not_awss_store(host):
    one, another = (f"s3://b at http://{host.format(number)}:9000" for number in (1, 2))
    assert not same_place(one, another)
    assert not same_place(one, "s3://b")
