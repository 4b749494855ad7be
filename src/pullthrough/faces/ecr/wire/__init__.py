"""The AWS APIs on the wire: protocols, inputs and outputs by botocore's models, bodies, errors, pages."""
