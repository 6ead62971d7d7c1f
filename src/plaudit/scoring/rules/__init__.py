"""The built-in reward functions, a file for each family; `scoring/builtin.py` has the table."""
