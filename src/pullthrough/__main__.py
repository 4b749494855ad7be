"""`python -m pullthrough`: the same as the command `pullthrough`."""

from pullthrough.cli.main import run

run()
