# What the provider knows since version 6. With version 5, leave this file out.

resource "aws_ecr_pull_time_update_exclusion" "scanner" {
  principal_arn = "arn:aws:iam::${data.aws_caller_identity.me.account_id}:role/image-scanner"
}
