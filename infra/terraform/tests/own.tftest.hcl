# What one has already: VPC, bucket, key, secret, certificate, name.

variables {
  name                     = "vms"
  tags                     = { Team = "ci" }
  image                    = "registry.example.com/s3reg@sha256:0123"
  create_vpc               = false
  create_bucket            = false
  create_certificate       = false
  create_root_token_secret = false
  encryption               = "own"
  vpc_id                   = "vpc-0123"
  private_subnet_ids       = ["subnet-1", "subnet-2"]
  s3_gateway_endpoint      = false
  bucket                   = "ours"
  bucket_prefix            = "team/registry"
  kms_key_arn              = "arn:aws:kms:eu-central-1:123456789012:key/0123"
  certificate_arn          = "arn:aws:acm:eu-central-1:123456789012:certificate/0123"
  root_token_secret_arn    = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ours-0123"
}

provider "aws" {
  region = "eu-central-1"
}

run "makes_none_of_them" {
  command = plan

  assert {
    condition     = length(aws_vpc.this) + length(aws_s3_bucket.this) + length(aws_kms_key.this) + length(aws_acm_certificate.this) + length(aws_secretsmanager_secret.root_token) + length(aws_vpc_endpoint.s3) == 0
    error_message = "What there is already is not made."
  }

  assert {
    condition     = tolist(aws_ecs_service.this.network_configuration[0].subnets) == tolist(["subnet-1", "subnet-2"])
    error_message = "Replicas run in these subnets."
  }

  assert {
    condition = anytrue([
      for one in jsondecode(aws_iam_role_policy.task["web"].policy).Statement :
      one.Sid == "GetObject" && contains(flatten([one.Resource]), "arn:aws:s3:::ours/team/registry/packs/*")
    ])
    error_message = "Roles go no further than the prefix."
  }

  assert {
    condition = anytrue([
      for one in jsondecode(aws_iam_role_policy.task["web"].policy).Statement :
      one.Sid == "List" && try(one.Condition.StringLike["s3:prefix"], null) == "team/registry/*"
    ])
    error_message = "Lists go no further either."
  }

  assert {
    condition = anytrue([
      for one in jsondecode(aws_iam_role_policy.task["gc"].policy).Statement : one.Sid == "Key" && one.Resource == var.kms_key_arn
    ])
    error_message = "Roles may use the key."
  }

  assert {
    condition     = output.store == "s3://ours/team/registry"
    error_message = "The store is the bucket's prefix."
  }

  assert {
    condition     = aws_lb.this.tags == tomap({ Team = "ci", Name = "vms" })
    error_message = "Tags reach what is made."
  }
}

run "passes_certificates_on" {
  command = plan

  variables {
    client_ca = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
  }

  assert {
    condition     = aws_lb_listener.https.mutual_authentication[0].mode == "passthrough"
    error_message = "The load balancer passes certificates on."
  }

  assert {
    condition = anytrue([
      for one in jsondecode(aws_ecs_task_definition.web.container_definitions) :
      one.name == "web" && contains(one.environment, { name = "S3REG_PROXY_CERTIFICATES", value = "alb-passthrough" })
    ])
    error_message = "The registry knows in which headers they come."
  }
}

run "has_ten_replicas" {
  command = plan

  variables {
    replicas     = 10
    max_replicas = 12
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 10 && aws_appautoscaling_target.this.max_capacity == 12
    error_message = "As many as one asks for."
  }
}

run "wants_tls" {
  command = plan

  variables {
    certificate_arn = null
  }

  expect_failures = [var.certificate_arn]
}

run "wants_two_subnets" {
  command = plan

  variables {
    private_subnet_ids = ["subnet-1"]
  }

  expect_failures = [var.private_subnet_ids]
}

run "takes_no_secret_in_settings" {
  command = plan

  variables {
    settings = { S3REG_ROOT_TOKEN = "0123456789abcdef" }
  }

  expect_failures = [var.settings]
}
