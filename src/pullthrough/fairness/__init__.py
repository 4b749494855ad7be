"""Sharing what is scarce between clients: who may have some of it now, and who comes next.

`queue` decides; it knows no clock, no loop and no thread. `gate` makes tasks wait for what it decides.
"""
