"""`pullthrough demo`: an upstream of our own, an engine in front of it, and what each kind of pull costs.

`upstream.py`, and what it is made of, imports neither the engine nor the settings: tests build their fakes on it.
"""

from __future__ import annotations


def run(*, json_output: bool = False) -> int:
    """Run the demo, print its table or its JSON, and return 0 if every pull kept its promise, else 1.

    Needs no network beyond loopback and leaves nothing behind, also when it is interrupted.
    """
    from pullthrough.demo.scenario import play_and_print

    return play_and_print(json_output=json_output)
