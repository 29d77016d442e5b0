"""One recipe on one workdir: its data, its networks, its records."""
