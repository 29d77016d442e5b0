"""The stages: each trains something, or evaluates or shows what was trained."""
