data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.region

  vpc_id     = var.create_vpc ? aws_vpc.this[0].id : var.vpc_id
  private    = var.create_vpc ? aws_subnet.private[*].id : var.private_subnet_ids
  public     = var.create_vpc ? aws_subnet.public[*].id : var.public_subnet_ids
  vpc_cidr   = var.create_vpc ? aws_vpc.this[0].cidr_block : data.aws_vpc.existing[0].cidr_block
  is_nat     = var.create_vpc && var.egress == "nat"
  has_public = local.is_nat || !var.internal

  bucket     = var.create_bucket ? aws_s3_bucket.this[0].id : var.bucket
  bucket_arn = "arn:${local.partition}:s3:::${local.bucket}"
  # What stands before every key of the store.
  below = var.bucket_prefix == "" ? "" : "${var.bucket_prefix}/"
  store = "s3://${local.bucket}${var.bucket_prefix == "" ? "" : "/${var.bucket_prefix}"}"

  kms_key_arn = var.encryption == "create" ? aws_kms_key.this[0].arn : var.kms_key_arn
  has_kms     = var.encryption != "aws"

  secret_arn = var.create_root_token_secret ? aws_secretsmanager_secret.root_token[0].arn : var.root_token_secret_arn

  certificate_arn = var.create_certificate ? aws_acm_certificate_validation.this[0].certificate_arn : var.certificate_arn
  host            = coalesce(var.domain_name, aws_lb.this.dns_name)

  port         = 8089
  metrics_port = 9089

  # Which actions the registry and its sweep need below which prefixes: a test of the registry holds this file to the
  # calls that the code makes.
  permissions = jsondecode(file("${path.module}/permissions.json"))
}
