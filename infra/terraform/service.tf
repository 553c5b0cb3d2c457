resource "aws_cloudwatch_log_group" "this" {
  name              = "/${var.name}/registry"
  retention_in_days = var.log_days
  kms_key_id        = local.kms_key_arn

  tags = merge(var.tags, { Name = var.name })
}

resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }

  tags = merge(var.tags, { Name = var.name })
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE"]
}

resource "aws_security_group" "replicas" {
  name_prefix = "${var.name}-replicas-"
  description = "Replicas and sweeps of ${var.name}"
  vpc_id      = local.vpc_id

  tags = merge(var.tags, { Name = "${var.name}-replicas" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "replicas" {
  security_group_id            = aws_security_group.replicas.id
  description                  = "The load balancer"
  referenced_security_group_id = aws_security_group.balancer.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port

  tags = merge(var.tags, { Name = "${var.name}-replicas" })
}

resource "aws_vpc_security_group_ingress_rule" "metrics" {
  for_each = toset(var.metrics_cidrs)

  security_group_id = aws_security_group.replicas.id
  description       = "Prometheus"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = local.metrics_port
  to_port           = local.metrics_port

  tags = merge(var.tags, { Name = "${var.name}-metrics-${each.key}" })
}

resource "aws_vpc_security_group_egress_rule" "replicas" {
  security_group_id = aws_security_group.replicas.id
  description       = "S3 and the rest of AWS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443

  tags = merge(var.tags, { Name = "${var.name}-replicas-egress" })
}

locals {
  # A replica that was told to end says so on /readyz until the balancer has noticed, and takes requests still; then it has
  # 30 s for those under way, and a few more for its events. Nobody may cut that short.
  check_seconds = 10
  misses        = 3
  drain_seconds = try(tonumber(var.settings["S3REG_DRAIN_SECONDS"]), local.check_seconds * local.misses + 5)
  end_seconds   = local.drain_seconds + 50

  environment = merge(
    {
      AWS_REGION              = local.region
      S3REG_STORE             = local.store
      S3REG_LISTEN            = "0.0.0.0:${local.port}"
      S3REG_ROOT_TOKEN_SECRET = local.secret_arn
      S3REG_AUTHORIZATION     = var.authorization ? "yes" : "no"
      S3REG_PROXIES           = join(",", local.balancer_cidrs)
      S3REG_LOG_FORMAT        = "json"
      S3REG_DRAIN_SECONDS     = tostring(local.drain_seconds)
      # A machine of Fargate shows more processors than are sold. Two at least: one is replaced while the other answers.
      S3REG_WORKERS = tostring(max(2, ceil(var.cpu / 1024)))
    },
    length(var.metrics_cidrs) == 0 ? {} : { S3REG_METRICS_LISTEN = "0.0.0.0:${local.metrics_port}" },
    var.client_ca == null ? {} : {
      S3REG_CLIENT_CA          = "/run/s3reg/client-ca.pem"
      S3REG_PROXY_CERTIFICATES = "alb-passthrough"
    },
    var.settings,
  )
  # A sweep serves nobody: of the settings it gets those that it has. Commands are quieter than a registry: without the level
  # there is no line that says that it ended well, and an alarm every day.
  sweep_environment = merge({ S3REG_LOG_LEVEL = "info" }, {
    for name in ["AWS_REGION", "S3REG_STORE", "S3REG_LOG_FORMAT", "S3REG_EVENT_SECONDS"] :
    name => local.environment[name] if contains(keys(local.environment), name)
  })
  balancer_cidrs = [for subnet in data.aws_subnet.balancer : subnet.cidr_block]

  logs = {
    logDriver = "awslogs"
    options = {
      awslogs-group  = aws_cloudwatch_log_group.this.name
      awslogs-region = local.region
    }
  }

  # As nobody, on a file system that cannot be written to, with no capability.
  hardened = {
    image                  = var.image
    readonlyRootFilesystem = true
    user                   = "65532:65532"
    linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
  }

  scratch = [{ sourceVolume = "scratch", containerPath = "/tmp" }]
  ca      = { sourceVolume = "client-ca", containerPath = "/run/s3reg" }
}

# Who stands in these subnets is believed when it says who connected.
data "aws_subnet" "balancer" {
  count = var.create_vpc ? var.zones : length(var.internal ? var.private_subnet_ids : var.public_subnet_ids)

  id = (var.internal ? local.private : local.public)[count.index]
}

resource "aws_ecs_task_definition" "web" {
  family                   = "${var.name}-web"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task["web"].arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode(concat(
    var.client_ca == null ? [] : [merge(local.hardened, {
      # The registry reads the CA from a file, and a task has none but those that it writes.
      name             = "client-ca"
      essential        = false
      entryPoint       = ["sh", "-c"]
      command          = ["printf '%s' \"$CLIENT_CA\" > /run/s3reg/client-ca.pem"]
      environment      = [{ name = "CLIENT_CA", value = var.client_ca }]
      mountPoints      = [local.ca]
      logConfiguration = merge(local.logs, { options = merge(local.logs.options, { awslogs-stream-prefix = "client-ca" }) })
    })],
    [merge(local.hardened, {
      name         = "web"
      essential    = true
      command      = ["serve"]
      stopTimeout  = local.end_seconds
      environment  = [for name in sort(keys(local.environment)) : { name = name, value = local.environment[name] }]
      portMappings = [for port in concat([local.port], length(var.metrics_cidrs) == 0 ? [] : [local.metrics_port]) : { containerPort = port, protocol = "tcp" }]
      mountPoints  = concat(local.scratch, var.client_ca == null ? [] : [merge(local.ca, { readOnly = true })])
      dependsOn    = var.client_ca == null ? [] : [{ containerName = "client-ca", condition = "SUCCESS" }]
      healthCheck = {
        command     = ["CMD", "python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', ${local.port}, timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
        interval    = 15
        timeout     = 5
        retries     = 3
        startPeriod = 30
      }
      logConfiguration = merge(local.logs, { options = merge(local.logs.options, { awslogs-stream-prefix = "web" }) })
    })],
  ))

  volume {
    name = "scratch"
  }

  dynamic "volume" {
    for_each = var.client_ca == null ? [] : [1]

    content {
      name = "client-ca"
    }
  }

  tags = merge(var.tags, { Name = "${var.name}-web" })
}

resource "aws_ecs_service" "this" {
  name            = var.name
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.web.arn
  desired_count   = var.replicas
  launch_type     = "FARGATE"

  # A release comes beside the one before, which goes when the new one is ready: never fewer replicas than there were.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 30
  availability_zone_rebalancing      = "ENABLED"
  enable_ecs_managed_tags            = true
  propagate_tags                     = "SERVICE"

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = local.private
    security_groups  = [aws_security_group.replicas.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this.arn
    container_name   = "web"
    container_port   = local.port
  }

  tags = merge(var.tags, { Name = var.name })

  lifecycle {
    # Scaling's.
    ignore_changes = [desired_count]
  }

  depends_on = [aws_lb_listener.https, aws_iam_role_policy.task, aws_iam_role_policy.execution]
}

# --- As many as requests need --------------------------------------------------------------------------------------------

resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.replicas
  max_capacity       = var.max_replicas

  tags = merge(var.tags, { Name = var.name })
}

resource "aws_appautoscaling_policy" "requests" {
  name               = "${var.name}-requests"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  resource_id        = aws_appautoscaling_target.this.resource_id
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = var.requests_per_replica
    scale_in_cooldown  = 300
    scale_out_cooldown = 30

    predefined_metric_specification {
      predefined_metric_type = "ALBRequestCountPerTarget"
      resource_label         = "${aws_lb.this.arn_suffix}/${aws_lb_target_group.this.arn_suffix}"
    }
  }
}
