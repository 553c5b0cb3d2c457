# The least that has to be said: a VPC, a bucket and everything else is made. Reached from inside the VPC, or what is connected to it.

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
  region = var.region
}

variable "region" {
  description = "Where."
  type        = string
  default     = "eu-central-1"
}

variable "image" {
  description = "The container image, in ECR."
  type        = string
}

variable "domain_name" {
  description = "What nodes call the registry."
  type        = string
}

variable "zone_id" {
  description = "The Route 53 zone of that name."
  type        = string
}

variable "root_token" {
  description = "The root token: TF_VAR_root_token=$(openssl rand -base64 32)."
  type        = string
  ephemeral   = true
  sensitive   = true
}

module "s3reg" {
  source = "../.."

  image       = var.image
  domain_name = var.domain_name
  zone_id     = var.zone_id
  root_token  = var.root_token
}

output "url" {
  description = "The registry's address."
  value       = module.s3reg.url
}

output "root_token_secret_arn" {
  description = "Where the root token lies."
  value       = module.s3reg.root_token_secret_arn
}

output "release_command" {
  description = "What lets the registry try its bucket."
  value       = module.s3reg.release_command
}

output "log_group_name" {
  description = "Logs, the audit among them."
  value       = module.s3reg.log_group_name
}

output "private_subnet_ids" {
  description = "Where Macs of EC2 are best put."
  value       = module.s3reg.private_subnet_ids
}

output "metrics_port" {
  description = "Where each replica serves /metrics to metrics_cidrs."
  value       = module.s3reg.metrics_port
}
