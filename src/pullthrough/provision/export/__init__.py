"""The declaration for other tools: Terraform and CloudFormation make of it what `apply` makes on AWS.

    declaration ─► desired (of an account and a region that are not known) ─┬─► terraform
                                                                            └─► cloudformation

Pure: no call of AWS, no token is read, and what comes out holds none, nor a fingerprint of one.
"""
