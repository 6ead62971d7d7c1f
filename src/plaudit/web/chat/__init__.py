"""The chat in a browser: one conversation of whoever has the link, with one model or with two that are compared."""
