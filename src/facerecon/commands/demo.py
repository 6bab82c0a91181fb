"""The command `facerecon demo`. Imports wait for the run."""

import argparse

from facerecon.commands.options import natural
from facerecon.commands.outcome import EXIT_CODES, OK, fail, say

PORT = 8765


def add_demo(commands: argparse._SubParsersAction) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "demo",
        help="a page in the browser: drop a photograph or use the camera",
        description=(
            "Show a page in the browser that takes a photograph, from a file or the camera, and"
            " shows its face in 3D, with its meshes to download. Only this computer can reach it;"
            " photographs are kept in memory, and nothing is stored. Ctrl-C ends it."
        ),
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "--port",
        type=natural,
        default=PORT,
        help=f"port of 127.0.0.1; 0: any free one (default: {PORT})",
    )
    parser.add_argument(
        "--open", action="store_true", dest="show", help="open the page in the browser"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.set_defaults(command=_demo)


def _demo(args: argparse.Namespace) -> int:
    from facerecon.demo import Demo, DemoServer
    from facerecon.pipeline import Reconstructor

    demo = Demo(Reconstructor.from_pretrained(device=args.device))
    with DemoServer(demo, args.port, say) as server:
        say(f"open {server.address} in a browser; Ctrl-C ends it")
        if args.show:
            import webbrowser

            if not webbrowser.open(server.address):
                fail("no browser could be started; open the address in one")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("ended")
    return OK
