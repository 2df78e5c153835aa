"""``minicnn serve``: a web page to try a network."""

from __future__ import annotations

import argparse
from typing import Any

from .sources import IN_A_FOLDER, load_model, metrics_beside, model_file


def add_to(commands: Any) -> None:
    """Add the commands of this file to the parser's."""
    serve = commands.add_parser("serve", help="a web page to try a model on your own pictures")
    serve.add_argument("model", help="a model's file or a run's folder")
    serve.add_argument("--host", default="127.0.0.1", help="address (default: this machine alone)")
    serve.add_argument("--port", type=int, default=8000, help="0: a free one (default: 8000)")
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name under which browsers may ask for it; may be repeated",
    )
    serve.add_argument("--device", default="auto", help="cpu, gpu, gpu:1 or auto (default: auto)")
    serve.set_defaults(run=run_serve)


def run_serve(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from ..web import serve
    from ..web.facts import facts_of

    model = load_model(args.model, args.device)
    finished = model_file(args.model).name == IN_A_FOLDER[0]
    facts = facts_of(metrics_beside(args.model), finished)
    serve(model, args.host, args.port, args.allow_host, facts)
    return 0
