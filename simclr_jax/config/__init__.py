"""What can be asked for: fields, their rules, the command line."""
