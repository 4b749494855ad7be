"""The nouns: what is wanted, what is there, and what is to be done, as plain values; all else stands on them."""
