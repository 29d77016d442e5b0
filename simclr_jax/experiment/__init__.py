"""A recipe and its workdir: the data, the networks, the records."""
