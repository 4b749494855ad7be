"""The nouns, as plain values: what is wanted, what is there, what is to be done."""
