"""Start-up: seconds until help stands there, a misspelt option is answered, the demo has taken its first step."""

from collections.abc import Sequence

from benchmarks import tables
from benchmarks.session import OURS, Session, Unit, arguments

COMMANDS = {
    "help": ["--help"],
    "help of ppo": ["ppo", "--help"],
    "a misspelt option": ["ppo", "ppo.yaml", "--itertions", "3"],
    "the demo's first step of SFT": ["demo"],
}


def main(argv: Sequence[str]) -> None:
    options = arguments("startup", __doc__ or "", argv, rounds=(5, "processes of each"))
    if options.quick:
        options.rounds = 1
    session = Session("startup", options)
    units = [
        Unit(case={"command": name}, side=OURS, worker="plaudit_start.py", task={"arguments": words})
        for name, words in COMMANDS.items()
        if not (options.quick and words == ["demo"])
    ]
    session.measure(units, rounds=options.rounds)
    print(table(session.record))


def table(record: tables.Record) -> str:
    header = ["what", "CPU seconds", "seconds", "peak MB"]
    rows = []
    for group in tables.groups(record):
        wall = group.median(lambda f: f["wall"])
        cpu = group.median(lambda f: f["cpu"])
        memory = tables.megabytes(group.largest("command_bytes"))
        rows.append(
            [group.case["command"], tables.told(cpu), tables.told(wall), memory if group.runs else group.failed]
        )
    return tables.markdown(header, rows)
