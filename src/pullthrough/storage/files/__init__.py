"""Bodies as files of the data folder."""
