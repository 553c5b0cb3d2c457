# What makes a Mac of EC2 a node: user data that installs the CLI, trusts the registry's CA and adds the remote.

terraform {
  required_version = ">= 1.11"
}

variable "registry_url" {
  description = "The registry's address."
  type        = string

  validation {
    condition     = can(regex("^https://[^/@'\"\\s]+$", var.registry_url))
    error_message = "registry_url: like https://registry.example.com."
  }
}

variable "remote" {
  description = "What the remote is called on the node."
  type        = string
  default     = "s3reg"

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+$", var.remote))
    error_message = "remote: letters, digits, dots, hyphens and underscores."
  }
}

variable "s3reg" {
  description = "What pip installs: the URL of a wheel that you serve, or s3reg==1.2.3 where pip asks an index of yours."
  type        = string

  validation {
    condition     = can(regex("^[^'\"\\s]+$", var.s3reg))
    error_message = "s3reg: one word, as pip takes it."
  }
}

variable "ca" {
  description = "The CA (PEM) that signed the registry's certificate, where that is no public one."
  type        = string
  default     = null

  validation {
    condition     = var.ca == null || can(regex("-----BEGIN CERTIFICATE-----", var.ca))
    error_message = "ca: PEM, as in file(\"ca.pem\")."
  }
}

variable "user" {
  description = "The user whose VMs the node runs."
  type        = string
  default     = "ec2-user"

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]*$", var.user))
    error_message = "user: the name of a user."
  }
}

variable "python" {
  description = "A Python of 3.11 or newer on the Mac; the images of AWS have Homebrew's."
  type        = string
  default     = "/opt/homebrew/bin/python3"
}

output "user_data" {
  description = "For user_data of an aws_instance or a launch template."
  value = templatefile("${path.module}/user-data.sh.tftpl", {
    registry_url = var.registry_url
    remote       = var.remote
    s3reg        = var.s3reg
    ca           = var.ca == null ? "" : trimspace(var.ca)
    user         = var.user
    python       = var.python
  })
}
