# Everything at once: a VPC of one's own, a key, a versioned bucket copied to another region, client certificates,
# alarms by mail, and a Mac of EC2 that uses it all.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
  }
}

provider "aws" {
  region = "eu-central-1"

  default_tags {
    tags = { Project = "ci" }
  }
}

provider "aws" {
  alias  = "copy"
  region = "eu-west-1"

  default_tags {
    tags = { Project = "ci" }
  }
}

data "aws_caller_identity" "current" {}

locals {
  name = "macos-ci"
  cidr = "10.80.0.0/16"
}

variable "image" {
  description = "The container image."
  type        = string
}

variable "certificate_arn" {
  description = "A certificate of ACM for registry.ci.internal, of your own CA."
  type        = string
}

variable "client_ca" {
  description = "The CA (PEM) of the certificates that nodes show."
  type        = string
}

variable "root_token_secret_arn" {
  description = "A secret of yours that is the root token."
  type        = string
}

variable "mail" {
  description = "Who is told of alarms."
  type        = string
}

variable "mac_ami_id" {
  description = "The AMI of the Macs; null: none are started."
  type        = string
  default     = null
}

variable "mac_host_id" {
  description = "The dedicated host of the Mac."
  type        = string
  default     = null
}

variable "wheel_url" {
  description = "Where the Mac installs s3reg from: a wheel that you serve."
  type        = string
}

# --- A VPC that is there already --------------------------------------------------------------------------------------------

data "aws_availability_zones" "here" {}

resource "aws_vpc" "ci" {
  cidr_block           = local.cidr
  enable_dns_hostnames = true

  tags = { Name = local.name }
}

resource "aws_default_security_group" "ci" {
  vpc_id = aws_vpc.ci.id

  tags = { Name = "${local.name}-default-unused" }
}

resource "aws_subnet" "private" {
  count = 2

  vpc_id            = aws_vpc.ci.id
  availability_zone = data.aws_availability_zones.here.names[count.index]
  cidr_block        = cidrsubnet(local.cidr, 4, count.index)

  tags = { Name = "${local.name}-private-${count.index}" }
}

resource "aws_subnet" "public" {
  vpc_id            = aws_vpc.ci.id
  availability_zone = data.aws_availability_zones.here.names[0]
  cidr_block        = cidrsubnet(local.cidr, 4, 8)

  tags = { Name = "${local.name}-public" }
}

resource "aws_internet_gateway" "ci" {
  vpc_id = aws_vpc.ci.id

  tags = { Name = local.name }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.ci.id

  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.ci.id
  }

  tags = { Name = "${local.name}-public" }
}

resource "aws_route_table_association" "public" {
  subnet_id      = aws_subnet.public.id
  route_table_id = aws_route_table.public.id
}

resource "aws_eip" "nat" {
  domain = "vpc"

  tags = { Name = local.name }
}

resource "aws_nat_gateway" "ci" {
  subnet_id     = aws_subnet.public.id
  allocation_id = aws_eip.nat.id

  tags = { Name = local.name }

  depends_on = [aws_internet_gateway.ci]
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.ci.id

  route {
    cidr_block     = "0.0.0.0/0"
    nat_gateway_id = aws_nat_gateway.ci.id
  }

  tags = { Name = "${local.name}-private" }
}

resource "aws_route_table_association" "private" {
  count = 2

  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private.id
}

# --- A name in it -------------------------------------------------------------------------------------------------------------

resource "aws_route53_zone" "internal" {
  name = "ci.internal"

  vpc {
    vpc_id = aws_vpc.ci.id
  }
}

# --- The copy in another region ---------------------------------------------------------------------------------------------

resource "aws_s3_bucket" "copy" {
  provider = aws.copy

  bucket = "${local.name}-copy-${data.aws_caller_identity.current.account_id}"
}

resource "aws_s3_bucket_public_access_block" "copy" {
  provider = aws.copy

  bucket                  = aws_s3_bucket.copy.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "copy" {
  provider = aws.copy

  bucket = aws_s3_bucket.copy.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "copy" {
  provider = aws.copy

  bucket = aws_s3_bucket.copy.id

  # Removals are not copied: what the registry removed, and what it wrote over, stays so long.
  rule {
    id     = "noncurrent"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }
}

# --- Alarms -------------------------------------------------------------------------------------------------------------------

resource "aws_sns_topic" "alarms" {
  name              = "${local.name}-alarms"
  kms_master_key_id = "alias/aws/sns"
}

resource "aws_sns_topic_subscription" "mail" {
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.mail
}

# --- The registry -------------------------------------------------------------------------------------------------------------

module "s3reg" {
  source = "../.."

  name = local.name
  tags = { Component = "registry" }

  create_vpc              = false
  vpc_id                  = aws_vpc.ci.id
  private_subnet_ids      = aws_subnet.private[*].id
  private_route_table_ids = [aws_route_table.private.id]
  ingress_cidrs           = [local.cidr, "10.10.0.0/16"]

  encryption  = "create"
  versioning  = true
  replication = { bucket_arn = aws_s3_bucket.copy.arn }

  create_root_token_secret = false
  image                    = var.image
  replicas                 = 3
  max_replicas             = 9
  root_token_secret_arn    = var.root_token_secret_arn
  settings                 = { S3REG_TRASH_SECONDS = "1209600" }

  create_certificate = false
  certificate_arn    = var.certificate_arn
  client_ca          = var.client_ca
  domain_name        = "registry.ci.internal"
  create_record      = true
  record_zone_id     = aws_route53_zone.internal.zone_id

  alarm_topics = [aws_sns_topic.alarms.arn]

  depends_on = [aws_s3_bucket_versioning.copy]
}

# --- A Mac that uses it -------------------------------------------------------------------------------------------------------

module "mac" {
  source = "../../modules/mac-node"

  registry_url = module.s3reg.url
  s3reg        = var.wheel_url
}

resource "aws_instance" "mac" {
  count = var.mac_ami_id == null ? 0 : 1

  ami           = var.mac_ami_id
  instance_type = "mac2-m2.metal"
  host_id       = var.mac_host_id
  subnet_id     = aws_subnet.private[0].id
  user_data     = module.mac.user_data
  ebs_optimized = true

  root_block_device {
    volume_size = 500
    encrypted   = true
  }

  metadata_options {
    http_tokens = "required"
  }

  tags = { Name = "${local.name}-mac" }
}

output "url" {
  description = "The registry's address."
  value       = module.s3reg.url
}
