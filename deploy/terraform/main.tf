# The AWS side of node-termination-controller for one cluster, as a start for your own module.
# rules.json and policy.json are made from the controller's own tables: copy them with this file, and
# take them anew with each version.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

variable "cluster_name" {
  description = "Name of the EKS cluster"
  type        = string
}

variable "kinds" {
  description = "Kinds of events that are sent to the queue; all unless given"
  type        = set(string)
  default     = null
}

variable "group_names" {
  description = "Auto Scaling groups whose lifecycle hooks the controller may complete; * and ? are wildcards"
  type        = string
  default     = "*"
}

variable "namespace" {
  type    = string
  default = "node-termination-controller"
}

variable "service_account_name" {
  type    = string
  default = "node-termination-controller"
}

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  all_rules = jsondecode(file("${path.module}/rules.json"))
  rules     = { for kind, pattern in local.all_rules : kind => pattern if var.kinds == null ? true : contains(var.kinds, kind) }

  group_arn = join(":", [
    "arn", data.aws_partition.this.partition, "autoscaling", data.aws_region.this.name,
    data.aws_caller_identity.this.account_id, "autoScalingGroup", "*", "autoScalingGroupName/${var.group_names}",
  ])
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.cluster_name}-interruptions-dead-letters"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue" "interruptions" {
  name                       = "${var.cluster_name}-interruptions"
  sqs_managed_sse_enabled    = true
  message_retention_seconds  = 345600
  visibility_timeout_seconds = 20
  receive_wait_time_seconds  = 20
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 100
  })
}

resource "aws_sqs_queue_redrive_allow_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.interruptions.arn]
  })
}

resource "aws_cloudwatch_event_rule" "interruptions" {
  for_each      = local.rules
  name_prefix   = substr("${var.cluster_name}-${each.key}", 0, 38)
  description   = "node-termination-controller: ${each.key}"
  event_pattern = jsonencode(each.value)
}

resource "aws_cloudwatch_event_target" "interruptions" {
  for_each  = aws_cloudwatch_event_rule.interruptions
  rule      = each.value.name
  target_id = "queue"
  arn       = aws_sqs_queue.interruptions.arn
}

data "aws_iam_policy_document" "queue" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.interruptions.arn]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
  statement {
    sid       = "NamedRules"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.interruptions.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [for rule in aws_cloudwatch_event_rule.interruptions : rule.arn]
    }
  }
  statement {
    sid       = "NobodyElse"
    effect    = "Deny"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.interruptions.arn]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "ArnNotEquals"
      variable = "aws:SourceArn"
      values   = [for rule in aws_cloudwatch_event_rule.interruptions : rule.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "interruptions" {
  queue_url = aws_sqs_queue.interruptions.id
  policy    = data.aws_iam_policy_document.queue.json
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]
    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/eks-cluster-name"
      values   = [var.cluster_name]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-namespace"
      values   = [var.namespace]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-service-account"
      values   = [var.service_account_name]
    }
  }
}

resource "aws_iam_role" "controller" {
  name_prefix        = "node-termination-controller-"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "controller" {
  role = aws_iam_role.controller.id
  policy = templatefile("${path.module}/policy.json", {
    queue_arn = aws_sqs_queue.interruptions.arn
    group_arn = local.group_arn
  })
}

resource "aws_eks_pod_identity_association" "controller" {
  cluster_name    = var.cluster_name
  namespace       = var.namespace
  service_account = var.service_account_name
  role_arn        = aws_iam_role.controller.arn
}

output "queue_url" {
  value = aws_sqs_queue.interruptions.url
}

output "role_arn" {
  value = aws_iam_role.controller.arn
}
