"""`plaudit board` and its options."""

import argparse
import contextlib
from collections.abc import Generator
from typing import Any

from plaudit.errors import UserError


def add_board(commands: Any) -> None:
    board = commands.add_parser(
        "board",
        help="watch runs in a browser while they run, side by side, and search what was written",
        description="Serve a page on which runs are shown while they run. It reads the folders that it is given and "
        "changes nothing in them. The link that is printed lets in whoever has it.",
        epilog="examples: plaudit board runs; plaudit board runs/ppo runs/ppo-2; plaudit board 'runs/ppo-*'",
    )
    what = "folders of runs or pipelines, or of many of them (default: runs)"
    board.add_argument("runs", nargs="*", default=["runs"], help=what)
    add_server(board)
    board.set_defaults(call=_board)


def add_server(command: argparse.ArgumentParser) -> None:
    """Where a page is served."""
    command.add_argument("--host", default="127.0.0.1", help="0.0.0.0: for other machines too (default: %(default)s)")
    command.add_argument("--port", type=int, default=None, help="default: 8300, or a free one")
    command.add_argument("--public", default="", metavar="URL", help="how it is reached through a proxy or a tunnel")


@contextlib.contextmanager
def needing_serve() -> Generator[None]:
    """Imports of what the extra `serve` brings. Raises: UserError where it isn't there."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is missing; this command needs: pip install 'plaudit[serve]'") from error


def _board(known: argparse.Namespace) -> int:
    with needing_serve():
        from plaudit.web.alone import Address, serve_alone
        from plaudit.web.board.routes import board_routes
    serve_alone("board", board_routes(known.runs), Address(host=known.host, port=known.port, public=known.public))
    return 0
