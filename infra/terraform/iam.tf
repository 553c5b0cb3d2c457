# Three roles: what starts a task, what a replica may do, what a sweep may do. Only a sweep may remove packs.

# By service, who may take on a role; each for this account only, so that no other's tasks are mistaken for ours.
data "aws_iam_policy_document" "trust" {
  for_each = toset(["ecs-tasks", "s3", "scheduler", "vpc-flow-logs"])

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["${each.key}.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

# --- What starts a task -------------------------------------------------------------------------------------------------

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "Image"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Layers"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = ["arn:${local.partition}:ecr:*:*:repository/*"]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }
}

resource "aws_iam_role" "execution" {
  name_prefix        = "${var.name}-execution-"
  description        = "Starts the tasks of ${var.name}: fetches the image, writes logs."
  assume_role_policy = data.aws_iam_policy_document.trust["ecs-tasks"].json

  tags = merge(var.tags, { Name = "${var.name}-execution" })
}

resource "aws_iam_role_policy" "execution" {
  name   = "execution"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# --- What the registry does ---------------------------------------------------------------------------------------------

data "aws_iam_policy_document" "store" {
  for_each = local.permissions

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]

    dynamic "condition" {
      for_each = var.bucket_prefix == "" ? [] : [local.below]

      content {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = ["${condition.value}*"]
      }
    }
  }

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = replace(statement.key, "s3:", "")
      actions   = [statement.key]
      resources = [for keys in statement.value : "${local.bucket_arn}/${local.below}${keys}"]
    }
  }

  dynamic "statement" {
    for_each = local.has_kms ? [1] : []

    content {
      sid       = "Key"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [local.kms_key_arn]
    }
  }

  dynamic "statement" {
    for_each = each.key == "web" ? [1] : []

    content {
      sid       = "RootToken"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [local.secret_arn]
    }
  }

  # What s3reg store check looks at, to warn of what would hurt.
  dynamic "statement" {
    for_each = each.key == "web" ? [1] : []

    content {
      sid       = "Settings"
      actions   = ["s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration"]
      resources = [local.bucket_arn]
    }
  }
}

resource "aws_iam_role" "task" {
  for_each = local.permissions

  name_prefix        = "${var.name}-${each.key}-"
  description        = each.key == "web" ? "A replica of ${var.name}; the links it signs can do no more." : "The sweep of ${var.name}."
  assume_role_policy = data.aws_iam_policy_document.trust["ecs-tasks"].json

  tags = merge(var.tags, { Name = "${var.name}-${each.key}" })
}

resource "aws_iam_role_policy" "task" {
  for_each = local.permissions

  name   = "store"
  role   = aws_iam_role.task[each.key].id
  policy = data.aws_iam_policy_document.store[each.key].json
}

# --- The root token -----------------------------------------------------------------------------------------------------

resource "aws_secretsmanager_secret" "root_token" {
  count = var.create_root_token_secret ? 1 : 0

  name_prefix = "${var.name}-root-token-"
  description = "The root token of ${var.name}, as plain text."
  kms_key_id  = local.kms_key_arn

  tags = merge(var.tags, { Name = "${var.name}-root-token" })
}

resource "aws_secretsmanager_secret_version" "root_token" {
  count = var.create_root_token_secret ? 1 : 0

  secret_id                = aws_secretsmanager_secret.root_token[0].id
  secret_string_wo         = var.root_token
  secret_string_wo_version = var.root_token_version
}
