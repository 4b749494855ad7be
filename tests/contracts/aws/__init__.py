"""What moto and the engine both do, asked with boto3 over HTTP: AWS's contract as far as both keep it."""
