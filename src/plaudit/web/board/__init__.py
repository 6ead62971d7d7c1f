"""The board: runs while they run, by the report's own parts. It reads folders that it was given, and writes none."""
