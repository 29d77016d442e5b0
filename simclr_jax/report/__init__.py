"""results.json as people look at it: a table, a page."""
