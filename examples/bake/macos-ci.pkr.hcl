# A macOS VM for CI, made anew from a base. bake.sh gives the variables.

packer {
  required_plugins {
    veertu-anka = {
      version = ">= 4.0.0"
      source  = "github.com/veertuinc/veertu-anka"
    }
  }
}

variable "base" {
  description = "The VM to clone, which bake.sh has pulled."
  type        = string
  default     = "15.1-base"
}

variable "name" {
  description = "What the new VM is called on this Mac."
  type        = string
  default     = "macos-ci-next"
}

variable "xcode" {
  description = "Which Xcode goes in."
  type        = string
  default     = "17.0"
}

source "veertu-anka-vm-clone" "ci" {
  source_vm_name = var.base
  vm_name        = var.name
  stop_vm        = true
}

build {
  sources = ["source.veertu-anka-vm-clone.ci"]

  provisioner "shell" {
    script           = "${path.root}/provision.sh"
    environment_vars = ["XCODE=${var.xcode}"]
  }

  # No post-processor: bake.sh pushes, so that a build that failed half-way is never pushed.
}
