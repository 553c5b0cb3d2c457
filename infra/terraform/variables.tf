# --- Everything -------------------------------------------------------------------------------------------------------

variable "name" {
  description = "What everything is named after: a bucket, a cluster, a load balancer."
  type        = string
  default     = "s3reg"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name: 3 to 24 lower-case letters, digits and hyphens, beginning with a letter. A load balancer takes no longer one."
  }
}

variable "tags" {
  description = "Tags of everything that is made, besides Name."
  type        = map(string)
  default     = {}
}

# --- The network ------------------------------------------------------------------------------------------------------

variable "create_vpc" {
  description = "Make a VPC. false: vpc_id and private_subnet_ids are yours, and for the gateway endpoint private_route_table_ids."
  type        = bool
  default     = true
}

variable "vpc_id" {
  description = "Your VPC."
  type        = string
  default     = null

  validation {
    condition     = var.create_vpc == (var.vpc_id == null)
    error_message = "vpc_id: goes with create_vpc = false, and with nothing else."
  }
}

variable "private_subnet_ids" {
  description = "Of your VPC: where the replicas run, and the load balancer if it is internal. At least two, in two zones."
  type        = list(string)
  default     = []

  validation {
    condition     = var.create_vpc ? length(var.private_subnet_ids) == 0 : length(var.private_subnet_ids) >= 2
    error_message = "private_subnet_ids: at least two with create_vpc = false, none without it."
  }
}

variable "public_subnet_ids" {
  description = "Of your VPC: where a load balancer stands that is not internal."
  type        = list(string)
  default     = []

  validation {
    condition     = var.create_vpc || var.internal || length(var.public_subnet_ids) >= 2
    error_message = "public_subnet_ids: at least two, because the load balancer is not internal."
  }
}

variable "private_route_table_ids" {
  description = "Of your VPC: the route tables of its private subnets and of its Macs' subnets; they get the S3 gateway endpoint."
  type        = list(string)
  default     = []
}

variable "s3_gateway_endpoint" {
  description = "Make the gateway endpoint by which the VPC reaches S3 without NAT, and at no price. A route table takes one only: false, if the VPC has it."
  type        = bool
  default     = true

  validation {
    condition     = !var.s3_gateway_endpoint || var.create_vpc || length(var.private_route_table_ids) > 0
    error_message = "s3_gateway_endpoint: name the route tables it is for in private_route_table_ids, or set it to false if the VPC has one."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made."
  type        = string
  default     = "10.42.0.0/16"

  validation {
    condition     = can(cidrsubnet(var.vpc_cidr, 4, 0)) && try(tonumber(split("/", var.vpc_cidr)[1]), 0) <= 22
    error_message = "vpc_cidr: a network like 10.42.0.0/16, of 1,024 addresses at least."
  }
}

variable "zones" {
  description = "How many availability zones the VPC that is made spans."
  type        = number
  default     = 2

  validation {
    condition     = var.zones >= 2 && var.zones <= 4
    error_message = "zones: 2 to 4; a load balancer needs two."
  }
}

variable "flow_log_days" {
  description = "How long flow logs of the VPC that is made are kept; 0: there are none."
  type        = number
  default     = 0
}

variable "egress" {
  description = "How replicas of the VPC that is made reach AWS besides S3. endpoints: interface endpoints, nothing else is reachable, the image lies in ECR. nat: one NAT gateway in each zone."
  type        = string
  default     = "endpoints"

  validation {
    condition     = contains(["endpoints", "nat"], var.egress)
    error_message = "egress: endpoints or nat."
  }
}

# --- The bucket -------------------------------------------------------------------------------------------------------

variable "create_bucket" {
  description = "Make a bucket. false: bucket is yours."
  type        = bool
  default     = true
}

variable "bucket" {
  description = "Your bucket of this region, by name. Its policy, encryption and lifecycle stay yours too."
  type        = string
  default     = null

  validation {
    condition     = var.create_bucket == (var.bucket == null)
    error_message = "bucket: goes with create_bucket = false, and with nothing else."
  }
}

variable "bucket_prefix" {
  description = "Below which the store lies in the bucket, without slashes around it; empty: at its top."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)?$", var.bucket_prefix))
    error_message = "bucket_prefix: like team/registry, no slash at its ends."
  }
}

variable "encryption" {
  description = "Of bucket, secret and logs. aws: by AWS's keys (AES-256); create: by a KMS key that is made; own: by kms_key_arn."
  type        = string
  default     = "aws"

  validation {
    condition     = contains(["aws", "create", "own"], var.encryption)
    error_message = "encryption: aws, create or own."
  }
}

variable "kms_key_arn" {
  description = "Your KMS key. Its policy has to let CloudWatch Logs use it."
  type        = string
  default     = null

  validation {
    condition     = (var.encryption == "own") == (var.kms_key_arn != null)
    error_message = "kms_key_arn: goes with encryption = \"own\", and with nothing else."
  }
}

variable "versioning" {
  description = "Keep what is overwritten or removed, for noncurrent_days: a net under the registry's own trash; replication needs it."
  type        = bool
  default     = false
}

variable "noncurrent_days" {
  description = "How long a versioned bucket keeps what was overwritten or removed."
  type        = number
  default     = 7

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "noncurrent_days: 1 or more."
  }
}

variable "replication" {
  description = "Copy every object to another bucket, which is versioned too, in another region as a rule. Removals are not copied."
  type = object({
    bucket_arn    = string
    storage_class = optional(string, "STANDARD_IA")
    kms_key_arn   = optional(string)
  })
  default = null

  validation {
    condition     = var.replication == null || (var.versioning && var.create_bucket)
    error_message = "replication: needs versioning, and a bucket that is made here."
  }
}

variable "force_destroy" {
  description = "Let terraform destroy remove a bucket with templates in it."
  type        = bool
  default     = false
}

# --- The registry -----------------------------------------------------------------------------------------------------

variable "image" {
  description = "The container image, by tag or, better, by digest. Behind interface endpoints it has to lie in ECR."
  type        = string

  validation {
    condition     = !var.create_vpc || var.egress == "nat" || can(regex("\\.dkr\\.ecr\\.", var.image))
    error_message = "image: without NAT only ECR is reachable: copy the image there, or set egress to nat."
  }
}

variable "replicas" {
  description = "Replicas at least. Two survive the loss of a zone."
  type        = number
  default     = 2

  validation {
    condition     = var.replicas >= 1 && floor(var.replicas) == var.replicas
    error_message = "replicas: 1 or more."
  }
}

variable "max_replicas" {
  description = "Replicas at most, when requests become many."
  type        = number
  default     = 6

  validation {
    condition     = var.max_replicas >= var.replicas
    error_message = "max_replicas: no fewer than replicas."
  }
}

variable "requests_per_replica" {
  description = "Requests a minute for each replica, at which there should be more of them."
  type        = number
  default     = 6000
}

variable "cpu" {
  description = "Of one replica, in 1/1024 of a vCPU, as Fargate sells it."
  type        = number
  default     = 1024

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "cpu: 256, 512, 1024, 2048, 4096, 8192 or 16384."
  }
}

variable "memory" {
  description = "Of one replica, in MiB, as Fargate sells it with that much cpu: two to eight times as much."
  type        = number
  default     = 2048

  validation {
    condition     = var.memory >= 2 * var.cpu && var.memory <= 8 * var.cpu
    error_message = "memory: two to eight MiB for each 1/1024 of a vCPU in cpu."
  }
}

variable "cpu_architecture" {
  description = "ARM64 or X86_64: what the image was made for."
  type        = string
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.cpu_architecture)
    error_message = "cpu_architecture: ARM64 or X86_64."
  }
}

variable "authorization" {
  description = "Whether API keys and certificates may do only what their groups permit."
  type        = bool
  default     = true
}

variable "settings" {
  description = "More settings of the registry, like { S3REG_TRASH_SECONDS = \"1209600\" }. No secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : startswith(name, "S3REG_")])
    error_message = "settings: their names begin with S3REG_."
  }

  validation {
    condition     = try(tonumber(var.settings["S3REG_DRAIN_SECONDS"]), 0) <= 70
    error_message = "settings: S3REG_DRAIN_SECONDS is 70 at most: Fargate gives a task 120 s to end, of which 50 are for requests under way."
  }

  validation {
    condition     = !contains(keys(var.settings), "S3REG_ROOT_TOKEN") && !contains(keys(var.settings), "S3REG_ROOT_TOKEN_PREVIOUS")
    error_message = "settings: a task definition is no place for a secret; use root_token, or root_token_secret_arn."
  }
}

variable "root_token" {
  description = "The root token, at least 10 characters; goes into a secret that is made, never into the state. To change it, raise root_token_version too."
  type        = string
  default     = null
  ephemeral   = true
  sensitive   = true

  validation {
    condition     = var.root_token == null || try(length(var.root_token), 0) >= 10
    error_message = "root_token: at least 10 characters; openssl rand -base64 32 makes one."
  }

  validation {
    condition     = var.create_root_token_secret == (var.root_token != null)
    error_message = "root_token: give one (TF_VAR_root_token); or root_token_secret_arn, with create_root_token_secret = false."
  }
}

variable "root_token_version" {
  description = "Raise it by one to write another root_token; the one before stays valid beside it until the next."
  type        = number
  default     = 1
}

variable "create_root_token_secret" {
  description = "Make a secret with root_token in it. false: root_token_secret_arn is yours."
  type        = bool
  default     = true
}

variable "root_token_secret_arn" {
  description = "Your secret, whose plain text is the root token."
  type        = string
  default     = null

  validation {
    condition     = var.create_root_token_secret == (var.root_token_secret_arn == null)
    error_message = "root_token_secret_arn: goes with create_root_token_secret = false, and with nothing else."
  }
}

# --- The way in -------------------------------------------------------------------------------------------------------

variable "internal" {
  description = "Whether the load balancer can be reached from inside only: the VPC, and what is connected to it."
  type        = bool
  default     = true
}

variable "ingress_cidrs" {
  description = "Networks that may connect to the load balancer; empty: the VPC's own."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.ingress_cidrs : can(cidrhost(cidr, 0))])
    error_message = "ingress_cidrs: networks like 10.0.0.0/8."
  }

  validation {
    condition     = var.internal || length(var.ingress_cidrs) > 0
    error_message = "ingress_cidrs: who may connect from outside? The addresses by which your nodes reach the internet."
  }
}

variable "create_certificate" {
  description = "Make a certificate for domain_name, proved in zone_id. false: certificate_arn is yours. There is no registry without TLS."
  type        = bool
  default     = true
}

variable "certificate_arn" {
  description = "Your ACM certificate."
  type        = string
  default     = null

  validation {
    condition     = var.create_certificate == (var.certificate_arn == null)
    error_message = "certificate_arn: goes with create_certificate = false, and with nothing else."
  }
}

variable "domain_name" {
  description = "What nodes call the registry, like registry.example.com; null: by the load balancer's name, with a certificate of yours."
  type        = string
  default     = null

  validation {
    condition     = !var.create_certificate || var.domain_name != null
    error_message = "domain_name: a certificate is made for a name."
  }
}

variable "zone_id" {
  description = "The public Route 53 zone in which a certificate is proved."
  type        = string
  default     = null

  validation {
    condition     = !var.create_certificate || var.zone_id != null
    error_message = "zone_id: a certificate is proved in a zone of Route 53; or give certificate_arn."
  }
}

variable "create_record" {
  description = "Make domain_name in record_zone_id. null: as create_certificate is."
  type        = bool
  default     = null

  validation {
    condition     = !coalesce(var.create_record, false) || var.domain_name != null
    error_message = "create_record: of which domain_name?"
  }
}

variable "record_zone_id" {
  description = "The zone, often a private one, in which the name is made; null: zone_id."
  type        = string
  default     = null
}

variable "ssl_policy" {
  description = "TLS versions and ciphers of the load balancer."
  type        = string
  default     = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
}

variable "client_ca" {
  description = "Certificates (PEM) of the CAs whose client certificates are taken. The load balancer passes them on, the registry checks them."
  type        = string
  default     = null

  validation {
    condition     = var.client_ca == null || can(regex("-----BEGIN CERTIFICATE-----", var.client_ca))
    error_message = "client_ca: PEM, as in file(\"ca.pem\")."
  }
}

variable "deletion_protection" {
  description = "Refuse to remove the load balancer, whose name nodes know."
  type        = bool
  default     = true
}

variable "access_logs_bucket" {
  description = "A bucket for the load balancer's access logs, with the policy that ELB asks for; null: none are written."
  type        = string
  default     = null
}

# --- Looking after it -------------------------------------------------------------------------------------------------

variable "sweep_schedule" {
  description = "When s3reg gc runs."
  type        = string
  default     = "rate(1 day)"

  validation {
    condition     = can(regex("^(rate|cron)\\(.+\\)$", var.sweep_schedule))
    error_message = "sweep_schedule: rate(1 day), or cron(0 3 * * ? *)."
  }
}

variable "sweep_overdue_hours" {
  description = "Without a sweep that ended well for so long there is an alarm."
  type        = number
  default     = 48

  validation {
    condition     = var.sweep_overdue_hours >= 2 && var.sweep_overdue_hours <= 168
    error_message = "sweep_overdue_hours: 2 to 168, a week: CloudWatch looks back no further."
  }
}

variable "log_days" {
  description = "How long logs are kept, the audit among them."
  type        = number
  default     = 365
}

variable "metrics_cidrs" {
  description = "Networks from which Prometheus may read /metrics of each replica, at port 9089, without saying who it is; empty: nobody."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.metrics_cidrs : can(cidrhost(cidr, 0))])
    error_message = "metrics_cidrs: networks like 10.0.0.0/8."
  }
}

variable "alarm_topics" {
  description = "ARNs of SNS topics that are told of alarms, and of their end."
  type        = list(string)
  default     = []
}
