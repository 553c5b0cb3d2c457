# The sweep: a task on a timer. Any number may run at once, so nothing keeps the next one from beginning.

resource "aws_ecs_task_definition" "gc" {
  family                   = "${var.name}-gc"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task["gc"].arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([merge(local.hardened, {
    name             = "gc"
    essential        = true
    command          = ["gc"]
    stopTimeout      = 60
    environment      = [for name in sort(keys(local.sweep_environment)) : { name = name, value = local.sweep_environment[name] }]
    mountPoints      = local.scratch
    logConfiguration = merge(local.logs, { options = merge(local.logs.options, { awslogs-stream-prefix = "gc" }) })
  })])

  volume {
    name = "scratch"
  }

  tags = merge(var.tags, { Name = "${var.name}-gc" })
}

data "aws_iam_policy_document" "scheduler" {
  # The newest revision is asked for by a name without one.
  statement {
    sid       = "Run"
    actions   = ["ecs:RunTask"]
    resources = [aws_ecs_task_definition.gc.arn_without_revision, "${aws_ecs_task_definition.gc.arn_without_revision}:*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  # A task that is to have tags is not started by who may not give it any:
  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/supported-iam-actions-tagging.html
  statement {
    sid       = "Tags"
    actions   = ["ecs:TagResource"]
    resources = ["arn:${local.partition}:ecs:${local.region}:${local.account}:task/${aws_ecs_cluster.this.name}/*"]

    condition {
      test     = "StringEquals"
      variable = "ecs:CreateAction"
      values   = ["RunTask"]
    }
  }

  statement {
    sid       = "As"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.execution.arn, aws_iam_role.task["gc"].arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "scheduler" {
  name_prefix        = "${var.name}-scheduler-"
  description        = "Starts the sweeps of ${var.name}."
  assume_role_policy = data.aws_iam_policy_document.trust["scheduler"].json

  tags = merge(var.tags, { Name = "${var.name}-scheduler" })
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "run"
  role   = aws_iam_role.scheduler.id
  policy = data.aws_iam_policy_document.scheduler.json
}

resource "aws_scheduler_schedule" "gc" {
  name                = "${var.name}-gc"
  description         = "s3reg gc"
  schedule_expression = var.sweep_schedule
  kms_key_arn         = local.kms_key_arn

  flexible_time_window {
    mode                      = "FLEXIBLE"
    maximum_window_in_minutes = 30
  }

  target {
    arn      = aws_ecs_cluster.this.arn
    role_arn = aws_iam_role.scheduler.arn

    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.gc.arn_without_revision
      launch_type         = "FARGATE"
      propagate_tags      = "TASK_DEFINITION"

      network_configuration {
        subnets          = local.private
        security_groups  = [aws_security_group.replicas.id]
        assign_public_ip = false
      }
    }

    retry_policy {
      maximum_retry_attempts       = 3
      maximum_event_age_in_seconds = 3600
    }
  }
}
