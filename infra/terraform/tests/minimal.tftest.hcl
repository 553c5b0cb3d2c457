# The least: everything is made, nothing is public.

variables {
  image       = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/s3reg:1"
  domain_name = "registry.example.com"
  zone_id     = "Z0123456789"
  root_token  = "0123456789abcdef"
}

provider "aws" {
  region = "eu-central-1"
}

run "makes_everything" {
  command = plan

  assert {
    condition     = length(aws_vpc.this) == 1 && length(aws_subnet.private) == 2 && length(aws_subnet.public) == 0
    error_message = "A VPC of two private subnets, and no public one."
  }

  assert {
    condition     = length(aws_internet_gateway.this) == 0 && length(aws_nat_gateway.this) == 0
    error_message = "Nothing leads out of it."
  }

  assert {
    condition     = aws_lb.this.internal && aws_lb.this.drop_invalid_header_fields && aws_lb.this.enable_deletion_protection
    error_message = "The load balancer is internal."
  }

  assert {
    condition     = !aws_ecs_service.this.network_configuration[0].assign_public_ip
    error_message = "Replicas have no public address."
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this[0].block_public_acls,
      aws_s3_bucket_public_access_block.this[0].block_public_policy,
      aws_s3_bucket_public_access_block.this[0].ignore_public_acls,
      aws_s3_bucket_public_access_block.this[0].restrict_public_buckets,
    ])
    error_message = "Nobody can make the bucket public."
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this[0].rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "The bucket is encrypted."
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.this[0].versioning_configuration).status == "Suspended"
    error_message = "It keeps no old versions unless asked."
  }

  assert {
    condition     = aws_vpc_endpoint.s3[0].vpc_endpoint_type == "Gateway" && aws_vpc_endpoint.s3[0].service_name == "com.amazonaws.eu-central-1.s3"
    error_message = "S3 is reached by a gateway endpoint."
  }

  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["ecr.api", "ecr.dkr", "logs", "secretsmanager"])
    error_message = "The rest of AWS is reached by interface endpoints."
  }

  assert {
    condition     = aws_ecs_service.this.desired_count == 2 && aws_appautoscaling_target.this.min_capacity == 2
    error_message = "Two replicas."
  }

  assert {
    condition     = aws_ecs_service.this.deployment_minimum_healthy_percent == 100 && aws_ecs_service.this.deployment_maximum_percent == 200
    error_message = "An upgrade never takes a replica away before another is ready."
  }

  assert {
    condition     = aws_lb_target_group.this.health_check[0].path == "/readyz"
    error_message = "The load balancer asks whether a replica is ready."
  }

  assert {
    condition     = local.drain_seconds > aws_lb_target_group.this.health_check[0].interval * aws_lb_target_group.this.health_check[0].unhealthy_threshold
    error_message = "A replica says that it ends until the load balancer has noticed."
  }

  assert {
    condition     = tonumber(aws_lb_target_group.this.deregistration_delay) >= local.drain_seconds + 30
    error_message = "The load balancer cuts no request that a replica still works on."
  }

  assert {
    condition = alltrue([
      aws_appautoscaling_policy.requests.target_tracking_scaling_policy_configuration[0].predefined_metric_specification[0].predefined_metric_type == "ALBRequestCountPerTarget",
      aws_appautoscaling_target.this.max_capacity == 6,
    ])
    error_message = "There are more replicas when there are more requests."
  }

  assert {
    condition     = aws_ecs_service.this.deployment_circuit_breaker[0].rollback
    error_message = "A release that does not come up is taken back."
  }

  assert {
    condition     = toset([for rule in aws_s3_bucket_lifecycle_configuration.this[0].rule : try(rule.filter[0].prefix, null) if length(rule.expiration) > 0]) == toset(["check/", "auth/spent/"])
    error_message = "Nothing ends by its age but scratch."
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.balancer : "${rule.cidr_ipv4} ${rule.to_port}"]) == toset(["10.42.0.0/16 80", "10.42.0.0/16 443"])
    error_message = "Only from the VPC does one reach the load balancer."
  }

  assert {
    condition     = aws_scheduler_schedule.gc.schedule_expression == "rate(1 day)" && aws_scheduler_schedule.gc.target[0].ecs_parameters[0].launch_type == "FARGATE"
    error_message = "A sweep runs every day."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.overdue.period * aws_cloudwatch_metric_alarm.overdue.evaluation_periods == 48 * 3600 && aws_cloudwatch_metric_alarm.overdue.treat_missing_data == "breaching"
    error_message = "Two days without a sweep are an alarm, and so is a sweep that never said anything."
  }

  assert {
    condition     = aws_cloudwatch_log_group.this.retention_in_days == 365
    error_message = "The audit is kept for a year."
  }

  assert {
    condition     = aws_lb_listener.http.default_action[0].type == "redirect" && aws_lb_listener.https.protocol == "HTTPS"
    error_message = "HTTP is sent to HTTPS."
  }

  assert {
    condition     = output.url == "https://registry.example.com"
    error_message = "The registry's address is its name's."
  }
}

run "lets_nobody_do_more_than_is_needed" {
  assert {
    condition = alltrue([
      for refused in [{ Bool = { "aws:SecureTransport" = "false" } }, { NumericLessThan = { "s3:TlsVersion" = "1.2" } }] : anytrue([
        for one in jsondecode(aws_s3_bucket_policy.this[0].policy).Statement : one.Effect == "Deny" && one.Principal == "*" && one.Condition == refused
      ])
    ])
    error_message = "The bucket refuses what does not come by TLS 1.2 or later."
  }

  assert {
    condition = alltrue([
      for one in jsondecode(aws_iam_role_policy.task["web"].policy).Statement :
      !contains(flatten([one.Action]), "s3:*") && !contains(flatten([one.Resource]), "*")
    ])
    error_message = "A replica's role names actions and resources."
  }

  assert {
    condition = toset(flatten([
      for one in jsondecode(aws_iam_role_policy.task["web"].policy).Statement : flatten([one.Resource]) if one.Sid == "DeleteObject"
    ])) == toset([for keys in ["check/*", "sessions/*"] : "${aws_s3_bucket.this[0].arn}/${keys}"])
    error_message = "A replica removes sessions and scratch only."
  }

  assert {
    condition = !anytrue([
      for one in jsondecode(aws_iam_role_policy.task["gc"].policy).Statement : one.Sid == "RootToken"
    ])
    error_message = "The sweep has no use for the root token."
  }

  assert {
    condition = alltrue([
      for one in jsondecode(aws_ecs_task_definition.web.container_definitions) :
      one.readonlyRootFilesystem && one.user == "65532:65532" && one.linuxParameters.capabilities.drop == ["ALL"]
    ])
    error_message = "As nobody, on a file system that cannot be written to, with no capability."
  }

  assert {
    condition = alltrue([
      for one in jsondecode(aws_ecs_task_definition.web.container_definitions) :
      one.stopTimeout == local.drain_seconds + 50 && one.stopTimeout <= 120 && one.command == ["serve"] if one.name == "web"
    ])
    error_message = "A replica is given the time to end, and Fargate gives that much."
  }

  assert {
    condition = alltrue([
      for one in jsondecode(aws_iam_role_policy.scheduler.policy).Statement :
      !contains(flatten([one.Resource]), "*") && length(one.Condition) == 1
    ])
    error_message = "What starts sweeps starts nothing else."
  }

  assert {
    condition = alltrue([
      for action in ["ecs:RunTask", "ecs:TagResource", "iam:PassRole"] :
      contains(flatten([for one in jsondecode(aws_iam_role_policy.scheduler.policy).Statement : one.Action]), action)
    ])
    error_message = "What starts a sweep may start it, with its roles and its tags."
  }

  assert {
    condition = alltrue([
      for one in concat(
        jsondecode(data.aws_iam_policy_document.execution.json).Statement,
        jsondecode(aws_iam_role_policy.task["web"].policy).Statement,
        jsondecode(aws_iam_role_policy.task["gc"].policy).Statement,
        jsondecode(aws_iam_role_policy.scheduler.policy).Statement,
      ) : alltrue([for action in flatten([one.Action]) : !strcontains(action, "*")])
    ])
    error_message = "No role has an action with a wildcard."
  }

  assert {
    condition     = contains(jsondecode(aws_ecs_task_definition.gc.container_definitions)[0].environment, { name = "S3REG_LOG_LEVEL", value = "info" })
    error_message = "A sweep says that it ended well."
  }

  assert {
    condition     = aws_secretsmanager_secret_version.root_token[0].secret_string == null
    error_message = "The root token is in no state."
  }

  assert {
    condition     = !strcontains(aws_ecs_task_definition.web.container_definitions, "0123456789abcdef")
    error_message = "The root token is in no task definition."
  }

  assert {
    condition     = !strcontains(aws_ecs_task_definition.gc.container_definitions, "ROOT_TOKEN")
    error_message = "A sweep is told what it has a use for, and nothing else."
  }

  assert {
    condition     = aws_scheduler_schedule.gc.target[0].ecs_parameters[0].network_configuration[0].assign_public_ip == false
    error_message = "A sweep has no public address."
  }

  assert {
    condition     = alltrue([for made in [aws_vpc.this[0], aws_lb.this, aws_s3_bucket.this[0], aws_ecs_service.this] : made.tags.Name == "s3reg"])
    error_message = "Everything has a name."
  }
}
