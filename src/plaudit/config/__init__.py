"""Configuration: read, checked, overridden, explained. It knows no torch."""
