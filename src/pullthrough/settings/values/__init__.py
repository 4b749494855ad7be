"""The types of values that settings have: how each is read from a file or from text, what it accepts, how it is shown."""
