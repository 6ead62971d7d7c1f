"""Text rows from files: found, recognised, checked, converted, split. No torch here."""
