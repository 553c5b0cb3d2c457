# A release in place: other tasks on the same service, behind the same name, over the same bucket.

variables {
  image       = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/s3reg:1"
  domain_name = "registry.example.com"
  zone_id     = "Z0123456789"
  root_token  = "0123456789abcdef"
}

provider "aws" {
  region = "eu-central-1"
}

run "first" {}

run "next" {
  variables {
    image    = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/s3reg:2"
    replicas = 3
  }

  assert {
    condition = alltrue([
      for definitions in [aws_ecs_task_definition.web.container_definitions, aws_ecs_task_definition.gc.container_definitions] :
      alltrue([for one in jsondecode(definitions) : endswith(one.image, "/s3reg:2")])
    ])
    error_message = "Replicas and sweep are of the new release."
  }

  assert {
    condition = alltrue([
      output.bucket == run.first.bucket,
      output.load_balancer_dns_name == run.first.load_balancer_dns_name,
      output.service_name == run.first.service_name,
      output.root_token_secret_arn == run.first.root_token_secret_arn,
      output.vpc_id == run.first.vpc_id,
      output.task_role_arns == run.first.task_role_arns,
    ])
    error_message = "What keeps templates, and what nodes know, stays what it is."
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 3
    error_message = "Scaling keeps as many as are asked for now."
  }
}
