"""Carrying a plan out, and remembering what was done."""
