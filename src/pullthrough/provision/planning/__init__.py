"""Desired minus observed. Pure: everything was read before."""
