# What one may ask for besides: a key, old versions, a copy, a way in from outside, NAT, flow logs, Prometheus.

variables {
  image         = "registry.example.com/s3reg:1"
  domain_name   = "registry.example.com"
  zone_id       = "Z0123456789"
  root_token    = "0123456789abcdef"
  encryption    = "create"
  versioning    = true
  replication   = { bucket_arn = "arn:aws:s3:::copy" }
  egress        = "nat"
  flow_log_days = 30
  internal      = false
  ingress_cidrs = ["203.0.113.0/24"]
  metrics_cidrs = ["10.42.0.0/16"]
  settings      = { S3REG_DRAIN_SECONDS = "70" }
}

provider "aws" {
  region = "eu-central-1"
}

run "has_them_all" {
  command = plan

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this[0].rule).apply_server_side_encryption_by_default).sse_algorithm == "aws:kms" && aws_kms_key.this[0].enable_key_rotation
    error_message = "The bucket is encrypted by a key that rotates."
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.this[0].versioning_configuration).status == "Enabled" && length(aws_s3_bucket_replication_configuration.this[0].rule) == 1
    error_message = "Old versions are kept, and copied."
  }

  assert {
    condition     = anytrue([for rule in aws_s3_bucket_lifecycle_configuration.this[0].rule : try(rule.noncurrent_version_expiration[0].noncurrent_days, 0) == 7])
    error_message = "Old versions go after a week."
  }

  assert {
    condition     = !aws_lb.this.internal && length(aws_subnet.public) == 2 && length(aws_nat_gateway.this) == 2 && length(aws_vpc_endpoint.interface) == 0
    error_message = "The load balancer stands outside; replicas go out by NAT."
  }

  assert {
    condition     = length(aws_vpc_endpoint.s3) == 1
    error_message = "Disk bytes go by the gateway endpoint all the same."
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.balancer : rule.cidr_ipv4]) == toset(["203.0.113.0/24"])
    error_message = "Only these networks reach it."
  }

  assert {
    condition     = !aws_ecs_service.this.network_configuration[0].assign_public_ip
    error_message = "Replicas have no public address even so."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.metrics["10.42.0.0/16"].to_port == 9089 && local.environment.S3REG_METRICS_LISTEN == "0.0.0.0:9089"
    error_message = "Prometheus reads every replica."
  }

  assert {
    condition     = tonumber(aws_lb_target_group.this.deregistration_delay) == 120 && length(aws_flow_log.this) == 1
    error_message = "A longer drain is waited for by everybody."
  }
}

run "lets_nobody_in_from_everywhere_by_mistake" {
  command = plan

  variables {
    ingress_cidrs = []
  }

  expect_failures = [var.ingress_cidrs]
}

run "drains_no_longer_than_fargate_waits" {
  command = plan

  variables {
    settings = { S3REG_DRAIN_SECONDS = "90" }
  }

  expect_failures = [var.settings]
}

run "takes_no_memory_that_is_not_sold" {
  command = plan

  variables {
    cpu = 4096
  }

  expect_failures = [var.memory]
}
