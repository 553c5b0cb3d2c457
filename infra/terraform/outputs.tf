output "url" {
  description = "The registry's address: s3reg registry add NAME URL."
  value       = "https://${local.host}"
}

output "bucket" {
  description = "Where everything is kept."
  value       = local.bucket
}

output "store" {
  description = "The same as the commands take it: s3reg gc, fsck, store check."
  value       = local.store
}

output "root_token_secret_arn" {
  description = "Of the root token: aws secretsmanager get-secret-value --secret-id ARN."
  value       = local.secret_arn
}

output "load_balancer_dns_name" {
  description = "For a name of your own, where domain_name is null."
  value       = aws_lb.this.dns_name
}

output "load_balancer_zone_id" {
  description = "The same, for an alias record."
  value       = aws_lb.this.zone_id
}

output "load_balancer_security_group_id" {
  description = "To let more in than ingress_cidrs."
  value       = aws_security_group.balancer.id
}

output "vpc_id" {
  description = "Where it runs."
  value       = local.vpc_id
}

output "private_subnet_ids" {
  description = "Where Macs on EC2 are best put: S3 is reached by the gateway endpoint, and at no price."
  value       = local.private
}

output "private_route_table_ids" {
  description = "Of the private subnets of a VPC that was made."
  value       = aws_route_table.private[*].id
}

output "cluster_name" {
  description = "The ECS cluster."
  value       = aws_ecs_cluster.this.name
}

output "service_name" {
  description = "The ECS service."
  value       = aws_ecs_service.this.name
}

output "release_command" {
  description = "What to run before a release: s3reg store check as a task, with the roles and in the network of a replica. Its log stream web/web/… says what it found."
  value = join(" ", [
    "aws ecs run-task --region ${local.region} --cluster ${aws_ecs_cluster.this.name} --launch-type FARGATE",
    "--task-definition ${aws_ecs_task_definition.web.family}",
    "--network-configuration 'awsvpcConfiguration={subnets=[${join(",", local.private)}],securityGroups=[${aws_security_group.replicas.id}],assignPublicIp=DISABLED}'",
    "--overrides '{\"containerOverrides\":[{\"name\":\"web\",\"command\":[\"store\",\"check\"]}]}'",
  ])
}

output "metrics_port" {
  description = "Where each replica serves /metrics to metrics_cidrs."
  value       = local.metrics_port
}

output "task_role_arns" {
  description = "Of the replicas (web) and the sweep (gc): to be named in the policy of a key or bucket of yours."
  value       = { for name, role in aws_iam_role.task : name => role.arn }
}

output "log_group_name" {
  description = "Logs, the audit among them."
  value       = aws_cloudwatch_log_group.this.name
}
