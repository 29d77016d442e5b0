"""An encoder in the formats of others."""
