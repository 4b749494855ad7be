"""One module a group of rows; each has `scenarios()`, which names what it can measure."""
