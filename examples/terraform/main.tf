# All that a pull-through cache is set up with, by Terraform's AWS provider against the engine:
#
#   pullthrough serve &
#   pullthrough keys show                 # once: the key's id and secret half
#   export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
#   terraform init
#   terraform apply -var 'docker_hub={username="you",access_token="..."}'
#
# Without the provider's `endpoints` the same files set up Amazon ECR.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.91"
    }
  }
}

variable "endpoint" {
  description = "Where the engine listens."
  type        = string
  default     = "http://127.0.0.1:5000"
}

variable "region" {
  description = "As `region` in the engine's [ecr] table."
  type        = string
  default     = "us-east-1"
}

variable "docker_hub" {
  description = "The account that images are pulled as."
  type        = object({ username = string, access_token = string })
  sensitive   = true
}

provider "aws" {
  region = var.region
  # Nothing to ask for credentials or the region but what is given.
  skip_metadata_api_check = true
  skip_region_validation  = true

  endpoints {
    ecr            = var.endpoint
    secretsmanager = var.endpoint
    sts            = var.endpoint
  }
}

data "aws_caller_identity" "me" {}

# The account for Docker Hub. ECR wants its secrets under this prefix.

resource "aws_secretsmanager_secret" "docker_hub" {
  name                    = "ecr-pullthroughcache/docker-hub"
  description             = "Docker Hub, for the pull-through cache"
  recovery_window_in_days = 0
  tags                    = { purpose = "pull-through-cache" }
}

resource "aws_secretsmanager_secret_version" "docker_hub" {
  secret_id = aws_secretsmanager_secret.docker_hub.id
  secret_string = jsonencode({
    username    = var.docker_hub.username
    accessToken = var.docker_hub.access_token
  })
}

resource "aws_secretsmanager_secret_policy" "docker_hub" {
  secret_arn = aws_secretsmanager_secret.docker_hub.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "own-account"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.me.account_id}:root" }
      Action    = "secretsmanager:GetSecretValue"
      Resource  = "*"
    }]
  })
}

# Where images come from: one rule with an account, one without.

resource "aws_ecr_pull_through_cache_rule" "docker_hub" {
  ecr_repository_prefix = "docker-hub"
  upstream_registry_url = "registry-1.docker.io"
  credential_arn        = aws_secretsmanager_secret.docker_hub.arn

  depends_on = [aws_secretsmanager_secret_version.docker_hub]
}

resource "aws_ecr_pull_through_cache_rule" "quay" {
  ecr_repository_prefix = "quay"
  upstream_registry_url = "quay.io"
}

# What repositories are made with that a pull or a push creates.

locals {
  keep_two_hundred = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "the newest 200 tagged images"
      selection = {
        tagStatus      = "tagged"
        tagPatternList = ["*"]
        countType      = "imageCountMoreThan"
        countNumber    = 200
      }
      action = { type = "expire" }
    }]
  })
  own_account_pulls = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "pull"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.me.account_id}:root" }
      Action    = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    }]
  })
}

resource "aws_ecr_repository_creation_template" "everything" {
  prefix               = "ROOT"
  description          = "repositories that nobody made by hand"
  applied_for          = ["PULL_THROUGH_CACHE", "REPLICATION"]
  image_tag_mutability = "MUTABLE"
  lifecycle_policy     = local.keep_two_hundred
  repository_policy    = local.own_account_pulls
  resource_tags        = { "made-by" = "pull-through-cache" }

  encryption_configuration {
    encryption_type = "AES256"
  }
}

# A repository of one's own, for what is pushed.

resource "aws_ecr_repository" "app" {
  name                 = "team/app"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = true
  tags                 = { team = "a" }

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "app" {
  repository = aws_ecr_repository.app.name
  policy     = local.keep_two_hundred
}

resource "aws_ecr_repository_policy" "app" {
  repository = aws_ecr_repository.app.name
  policy     = local.own_account_pulls
}

# The registry as a whole.

resource "aws_ecr_registry_policy" "registry" {
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "fill-the-cache"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.me.account_id}:root" }
      Action    = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]
      Resource  = "arn:aws:ecr:${var.region}:${data.aws_caller_identity.me.account_id}:repository/docker-hub/*"
    }]
  })
}

resource "aws_ecr_account_setting" "registry_policy_scope" {
  name  = "REGISTRY_POLICY_SCOPE"
  value = "V2"
}

resource "aws_ecr_registry_scanning_configuration" "registry" {
  scan_type = "BASIC"

  rule {
    scan_frequency = "SCAN_ON_PUSH"
    repository_filter {
      filter      = "team/*"
      filter_type = "WILDCARD"
    }
  }
}

resource "aws_ecr_replication_configuration" "registry" {
  replication_configuration {
    rule {
      destination {
        region      = "eu-west-1"
        registry_id = data.aws_caller_identity.me.account_id
      }
      repository_filter {
        filter      = "team/"
        filter_type = "PREFIX_MATCH"
      }
    }
  }
}

data "aws_ecr_authorization_token" "login" {}

output "registry" {
  description = "What stands before `docker-hub/library/nginx:1.27`."
  value       = data.aws_ecr_authorization_token.login.proxy_endpoint
}

output "app" {
  value = aws_ecr_repository.app.repository_url
}
