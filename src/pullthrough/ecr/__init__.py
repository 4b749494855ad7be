"""The second face: the AWS JSON APIs (ecr, secretsmanager) and STS over HTTP. Thin: what happens is the engine's business."""
