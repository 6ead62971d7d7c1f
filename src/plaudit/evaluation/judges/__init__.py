"""How far judges agree with people's labels: rankings and comparisons (pairs), ratings, verdicts; beside floors."""
