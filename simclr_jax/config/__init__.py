"""What can be asked for.

`defaults.py` has every field with its default and meaning, `rules.py` the values that
each accepts, `validate.py` checks a whole config, `fields.py` reads one, and
`command_line.py` makes one out of a recipe and flags. Importing this package loads
nothing, and only `rules.py` and `validate.py` import jax.
"""
