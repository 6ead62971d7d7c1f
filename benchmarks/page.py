"""Write tables into docs/performance.md, from the results of the benchmarks.

    python -m benchmarks tables runs/benchmarks

Each NAME.json becomes what stands between `<!-- measured: NAME -->` and `<!-- end -->`; other places stay as they are.
"""

import argparse
import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import tables
from benchmarks.session import ROOT

PAGE = ROOT / "docs" / "performance.md"


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks tables", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="where the benchmarks wrote their results")
    parser.add_argument("--page", type=Path, default=PAGE, help="the file to write into (default: docs/performance.md)")
    options = parser.parse_args(argv)
    text = options.page.read_text(encoding="utf-8")
    options.page.write_text(filled(text, options.folder), encoding="utf-8")


def filled(text: str, folder: Path) -> str:
    """The page with a table in each place that has results. Names may go on after a dash: ppo-groups is of ppo."""

    def place(found: re.Match[str]) -> str:
        name = found.group(1)
        file = folder / f"{name}.json"
        if not file.exists():
            return found.group()
        record = json.loads(file.read_text(encoding="utf-8"))
        module = importlib.import_module(f"benchmarks.{record['benchmark']}")
        return f"<!-- measured: {name} -->\n{tables.heading(record)}\n\n{module.table(record)}\n<!-- end -->"

    return re.sub(r"<!-- measured: ([\w-]+) -->\n.*?<!-- end -->", place, text, flags=re.DOTALL)
