"""`plaudit chat` and its options."""

import argparse
from typing import Any

from plaudit.cli.board import add_server, needing_serve
from plaudit.errors import UserError

OPTIONS = ("max_new_tokens", "temperature", "stop", "greedy", "seed", "device", "system", "judge", "kl")
"""Those of `ChatConfig`."""


def add_chat(commands: Any) -> None:
    chat = commands.add_parser(
        "chat",
        help="talk to a trained model, or to two side by side without knowing which is which, and vote",
        description="Talk to a model in the terminal or, with --web, in a browser. Of two models every message gets "
        "two answers; after the vote their names are shown. Votes go into a labelling project, which `reward` reads.",
        epilog="examples: plaudit chat runs/ppo; plaudit chat runs/sft runs/ppo --web; "
        "plaudit chat runs/ppo --judge runs/reward/model --kl runs/sft",
        allow_abbrev=False,
    )
    chat.add_argument("models", nargs="+", metavar="RUN|MODEL", help="one or two: a run, a model's folder, a hub name")
    chat.add_argument("--judge", default="", help="score answers: a reward model or function, as in `plaudit score`")
    chat.add_argument("--kl", default="", metavar="MODEL", help="show the KL of each answer to this reference")
    chat.add_argument("--system", default="", help="what stands before the conversation, for models with such a turn")
    chat.add_argument("--store", default="chat.db", help="the project that keeps votes (default: %(default)s)")
    chat.add_argument("--max_new_tokens", type=int, default=256, help="of an answer (default: %(default)s)")
    chat.add_argument("--temperature", type=float, default=1.0, help="of sampling (default: %(default)s)")
    chat.add_argument("--stop", nargs="+", default=[], help="texts that end an answer")
    chat.add_argument("--greedy", action="store_true", help="the likeliest token each time")
    chat.add_argument("--seed", type=int, help="of sampling (default: 0), and of who is A (default: drawn anew)")
    chat.add_argument("--device", default="auto", help="auto, cpu or cuda")
    chat.add_argument("--web", action="store_true", help="in a browser")
    add_server(chat)
    chat.set_defaults(call=_chat)


def _chat(known: argparse.Namespace) -> int:
    if len(known.models) > 2:
        raise UserError("a chat takes one model or two")
    store = None
    if len(known.models) == 2:
        with needing_serve():
            from plaudit.api.talk import open_store

            store = open_store(known.store)
    if known.web:
        with needing_serve():
            from plaudit.web.alone import Address, serve_alone
            from plaudit.web.chat.routes import chat_routes
        address = Address(host=known.host, port=known.port, public=known.public)
        serve_alone("chat", chat_routes(_talk(known), store), address)
    else:
        from plaudit.api.terminal import converse

        converse(_talk(known), store)
    return 0


def _talk(known: argparse.Namespace) -> Any:
    from plaudit.api.chat import talk_with

    return talk_with(known.models, {name: getattr(known, name) for name in OPTIONS})
