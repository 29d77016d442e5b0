"""Each stage brings a loss to the loop, or reads what was trained."""
