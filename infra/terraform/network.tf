data "aws_vpc" "existing" {
  count = var.create_vpc ? 0 : 1

  id = var.vpc_id
}

data "aws_availability_zones" "here" {
  count = var.create_vpc ? 1 : 0

  state = "available"

  # No local zones: Fargate and load balancers are not in all of them.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  zones = var.create_vpc ? slice(data.aws_availability_zones.here[0].names, 0, var.zones) : []
}

resource "aws_vpc" "this" {
  count = var.create_vpc ? 1 : 0

  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = merge(var.tags, { Name = var.name })
}

# The group that everything gets which names none: nothing may come, nothing may go.
resource "aws_default_security_group" "this" {
  count = var.create_vpc ? 1 : 0

  vpc_id = aws_vpc.this[0].id

  tags = merge(var.tags, { Name = "${var.name}-default-unused" })
}

resource "aws_subnet" "private" {
  count = length(local.zones)

  vpc_id            = aws_vpc.this[0].id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(var.vpc_cidr, 3, count.index)

  tags = merge(var.tags, { Name = "${var.name}-private-${local.zones[count.index]}" })
}

resource "aws_route_table" "private" {
  count = length(local.zones)

  vpc_id = aws_vpc.this[0].id

  tags = merge(var.tags, { Name = "${var.name}-private-${local.zones[count.index]}" })
}

resource "aws_route_table_association" "private" {
  count = length(local.zones)

  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private[count.index].id
}

# --- S3, without a way out ----------------------------------------------------------------------------------------------

resource "aws_vpc_endpoint" "s3" {
  count = var.s3_gateway_endpoint ? 1 : 0

  vpc_id            = local.vpc_id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.create_vpc ? aws_route_table.private[*].id : var.private_route_table_ids

  tags = merge(var.tags, { Name = "${var.name}-s3" })
}

# --- The rest of AWS, by endpoints ---------------------------------------------------------------------------------------

locals {
  # What a replica asks besides S3, and what Fargate asks to start it.
  interface_endpoints = concat(["ecr.api", "ecr.dkr", "logs", "secretsmanager"], local.has_kms ? ["kms"] : [])
}

resource "aws_security_group" "endpoints" {
  count = var.create_vpc && !local.is_nat ? 1 : 0

  name_prefix = "${var.name}-endpoints-"
  description = "Interface endpoints of ${var.name}"
  vpc_id      = local.vpc_id

  tags = merge(var.tags, { Name = "${var.name}-endpoints" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count = var.create_vpc && !local.is_nat ? 1 : 0

  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "Replicas"
  referenced_security_group_id = aws_security_group.replicas.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443

  tags = merge(var.tags, { Name = "${var.name}-endpoints" })
}

resource "aws_vpc_endpoint" "interface" {
  for_each = var.create_vpc && !local.is_nat ? toset(local.interface_endpoints) : toset([])

  vpc_id              = local.vpc_id
  service_name        = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = local.private
  security_group_ids  = [aws_security_group.endpoints[0].id]
  private_dns_enabled = true

  tags = merge(var.tags, { Name = "${var.name}-${each.key}" })
}

# --- Or by NAT; and public subnets for a load balancer that is not internal ------------------------------------------------

resource "aws_internet_gateway" "this" {
  count = var.create_vpc && local.has_public ? 1 : 0

  vpc_id = aws_vpc.this[0].id

  tags = merge(var.tags, { Name = var.name })
}

resource "aws_subnet" "public" {
  count = local.has_public ? length(local.zones) : 0

  vpc_id            = aws_vpc.this[0].id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, 8 + count.index)

  tags = merge(var.tags, { Name = "${var.name}-public-${local.zones[count.index]}" })
}

resource "aws_route_table" "public" {
  count = var.create_vpc && local.has_public ? 1 : 0

  vpc_id = aws_vpc.this[0].id

  tags = merge(var.tags, { Name = "${var.name}-public" })
}

resource "aws_route" "public" {
  count = var.create_vpc && local.has_public ? 1 : 0

  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  count = local.has_public ? length(local.zones) : 0

  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_eip" "nat" {
  count = local.is_nat ? length(local.zones) : 0

  domain = "vpc"

  tags = merge(var.tags, { Name = "${var.name}-${local.zones[count.index]}" })
}

resource "aws_nat_gateway" "this" {
  count = local.is_nat ? length(local.zones) : 0

  subnet_id     = aws_subnet.public[count.index].id
  allocation_id = aws_eip.nat[count.index].id

  tags = merge(var.tags, { Name = "${var.name}-${local.zones[count.index]}" })

  depends_on = [aws_internet_gateway.this]
}

resource "aws_route" "nat" {
  count = local.is_nat ? length(local.zones) : 0

  route_table_id         = aws_route_table.private[count.index].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[count.index].id
}

# --- Who talked to whom, if that is to be known ----------------------------------------------------------------------------

locals {
  has_flow_logs = var.create_vpc && var.flow_log_days > 0
}

resource "aws_cloudwatch_log_group" "flows" {
  count = local.has_flow_logs ? 1 : 0

  name              = "/${var.name}/flows"
  retention_in_days = var.flow_log_days
  kms_key_id        = local.kms_key_arn

  tags = merge(var.tags, { Name = "${var.name}-flows" })
}

data "aws_iam_policy_document" "flows" {
  count = local.has_flow_logs ? 1 : 0

  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    resources = ["${aws_cloudwatch_log_group.flows[0].arn}:*"]
  }
}

resource "aws_iam_role" "flows" {
  count = local.has_flow_logs ? 1 : 0

  name_prefix        = "${var.name}-flows-"
  description        = "Writes the flow logs of ${var.name}."
  assume_role_policy = data.aws_iam_policy_document.trust["vpc-flow-logs"].json

  tags = merge(var.tags, { Name = "${var.name}-flows" })
}

resource "aws_iam_role_policy" "flows" {
  count = local.has_flow_logs ? 1 : 0

  name   = "write"
  role   = aws_iam_role.flows[0].id
  policy = data.aws_iam_policy_document.flows[0].json
}

resource "aws_flow_log" "this" {
  count = local.has_flow_logs ? 1 : 0

  vpc_id          = aws_vpc.this[0].id
  traffic_type    = "ALL"
  iam_role_arn    = aws_iam_role.flows[0].arn
  log_destination = aws_cloudwatch_log_group.flows[0].arn

  tags = merge(var.tags, { Name = var.name })
}
