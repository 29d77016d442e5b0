"""The fields of a recipe, their rules, and the command line.

`defaults.py` has every field with its default and meaning, and `rules.py` the values
that it accepts. `validate.py` checks a whole config, `fields.py` reads one, and
`command_line.py` makes one from a recipe and flags by `changes.py`. Importing this
package loads nothing; only `rules.py` and `validate.py` import jax.
"""
