locals {
  of_target = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.this.arn_suffix }
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${var.name}-5xx"
  alarm_description   = "Replicas of ${var.name} answer with server errors. Their log says why: event request, status 5xx."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HTTPCode_Target_5XX_Count"
  dimensions          = local.of_target
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 2
  threshold           = 10
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics

  tags = merge(var.tags, { Name = "${var.name}-5xx" })
}

resource "aws_cloudwatch_metric_alarm" "unanswered" {
  alarm_name          = "${var.name}-unanswered"
  alarm_description   = "The load balancer of ${var.name} found no replica to answer."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HTTPCode_ELB_5XX_Count"
  dimensions          = { LoadBalancer = aws_lb.this.arn_suffix }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  threshold           = 5
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics

  tags = merge(var.tags, { Name = "${var.name}-unanswered" })
}

resource "aws_cloudwatch_metric_alarm" "unhealthy" {
  alarm_name          = "${var.name}-unhealthy"
  alarm_description   = "A replica of ${var.name} is not ready: /readyz says whether the store is away, its credentials are refused, or its format is unknown."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "UnHealthyHostCount"
  dimensions          = local.of_target
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  # No number of hosts at all is no host.
  treat_missing_data = "breaching"
  alarm_actions      = var.alarm_topics
  ok_actions         = var.alarm_topics

  tags = merge(var.tags, { Name = "${var.name}-unhealthy" })
}

# A sweep that ended well leaves one line, a trial of one the same.
resource "aws_cloudwatch_log_metric_filter" "swept" {
  name           = "${var.name}-swept"
  log_group_name = aws_cloudwatch_log_group.this.name
  pattern        = "{ ($.event = \"swept\") && ($.dry_run IS FALSE) }"

  metric_transformation {
    namespace = "s3reg/${var.name}"
    name      = "Sweeps"
    value     = "1"
    unit      = "Count"
  }
}

resource "aws_cloudwatch_metric_alarm" "overdue" {
  alarm_name          = "${var.name}-sweep-overdue"
  alarm_description   = "No sweep of ${var.name} ended well for ${var.sweep_overdue_hours} hours: the bucket grows. The log stream gc says why."
  namespace           = aws_cloudwatch_log_metric_filter.swept.metric_transformation[0].namespace
  metric_name         = aws_cloudwatch_log_metric_filter.swept.metric_transformation[0].name
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = var.sweep_overdue_hours
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics

  tags = merge(var.tags, { Name = "${var.name}-sweep-overdue" })
}
