"""Terraform with its real AWS provider: `make test-terraform`."""
