"""From what is there to the declaration of it."""
