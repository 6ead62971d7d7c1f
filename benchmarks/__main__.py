"""`python -m benchmarks NAME`: speed and memory, ours beside others, and as shares of what the machine can do.

    python -m benchmarks ppo --quick      does it all run?
    python -m benchmarks ppo              measure; call again until all rounds are done
    python -m benchmarks all --quick      the same of every one
    python -m benchmarks tables FOLDER    write the tables of FOLDER/*.json into docs/performance.md

docs/performance.md says what is measured and how to read it; each NAME has a --help.
"""

import importlib
import sys

SPEED = ("ppo", "generation", "reward", "sft", "memory", "startup", "growth")
"""Modules that measure with a session: `main(argv)`, `table(record)`."""
NAMES = (*SPEED, "layouts", "labelling")
"""Modules with `main(argv)`."""


def main(argv: list[str]) -> None:
    name, rest = (argv[0], argv[1:]) if argv else ("", [])
    if name == "all":
        for each in SPEED:
            print(f"\n# {each}", flush=True)
            main([each, *rest])
        return
    if name in ("-h", "--help") or name not in (*NAMES, "tables"):
        print((__doc__ or "") + f"\nNAME is one of {', '.join(NAMES)}.")
        sys.exit(0 if name in ("-h", "--help") else 2)
    module = "benchmarks.page" if name == "tables" else f"benchmarks.{name}"
    importlib.import_module(module).main(rest)


if __name__ == "__main__":
    main(sys.argv[1:])
