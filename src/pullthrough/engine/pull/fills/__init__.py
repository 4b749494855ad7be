"""Fills: one transfer of a blob from its upstream, whoever asks and in whichever worker."""
