"""What proves who somebody is: signatures, tokens, download URLs, passwords."""
