"""What is set up for the registry as a whole, kept as the ECR API speaks it."""
