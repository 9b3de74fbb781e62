"""From decisions about rows to a cleaned copy of the data; the original is only read."""
