"""The face of AWS's APIs (ecr, secretsmanager, sts). Thin: what happens is the engine's business."""
