"""Speed, as ratios taken in one run: absolute times on a shared machine say little."""
