"""Many runs of one recipe, one table."""
