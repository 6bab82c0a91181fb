"""The command `facerecon view`. Imports wait for the run."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from facerecon.commands.outcome import EXIT_CODES, FAILED, OK, fail, say, small_faces_named

if TYPE_CHECKING:
    from facerecon.pipeline import Reconstructor
    from facerecon.views.report import Card

MESHES = (".ply", ".obj", ".stl", ".glb")
SHEET = "faces.html"


def add_view(commands: argparse._SubParsersAction) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "view",
        help="show faces in 3D, in a browser",
        description=(
            "Show faces in 3D, in any browser, without a server or a network. For each FACE the"
            " output folder gets FACE_view.html, one file that holds all it shows. A photograph is"
            " reconstructed: mesh in the photograph's colors and in clay, from coarse to detailed,"
            " landmarks, depth, normals and numbers. A mesh file (.glb, .ply, .obj, .stl) is shown"
            f" as it is. Of several, {SHEET} has links to all."
        ),
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "faces",
        nargs="+",
        metavar="FACE",
        help="photographs, mesh files, folders of photographs, or patterns such as 'faces/*.glb'",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("."),
        metavar="DIR",
        help="output folder (default: where the command is given)",
    )
    parser.add_argument(
        "--open", action="store_true", dest="show", help="open the page in the browser"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.set_defaults(command=_view)


def _view(args: argparse.Namespace) -> int:
    from facerecon.files import require_writable
    from facerecon.imaging import ImageError, list_images
    from facerecon.messages import one_line

    paths: list[Path] = []
    failures = 0
    for item in args.faces:
        try:
            paths += [path for path in list_images([item]) if path not in paths]
        except ImageError as error:
            failures += 1
            fail(error)
    require_writable(args.out)
    reconstructor = None
    cards: list[Card] = []
    pages: list[Path] = []
    for number, path in enumerate(paths, start=1):
        try:
            if reconstructor is None and path.suffix.lower() not in MESHES and path.is_file():
                from facerecon.pipeline import Reconstructor

                reconstructor = Reconstructor.from_pretrained(device=args.device)
            page, card = _write_one(path, args.out, pages, reconstructor)
        except (ValueError, OSError, MemoryError) as error:
            failures += 1
            message = str(error) or type(error).__name__
            fail(message if one_line(str(path)) in message else f"{path}: {message}")
            continue
        pages.append(page)
        cards.append(card)
        say(f"[{number}/{len(paths)}] {path} -> {page}")
    if len(pages) > 1:
        from facerecon.views.report import contact_sheet
        from facerecon.web_view import write_page

        sheet = write_page(args.out / SHEET, contact_sheet(cards, "Faces"))
        say(f"all {len(pages)} faces -> {sheet}")
        pages = [sheet]
    if args.show and pages:
        import webbrowser

        if not webbrowser.open(pages[0].resolve().as_uri()):
            return fail(f"{pages[0]}: no browser could be started; open the file in one")
    return FAILED if failures else OK


def _write_one(
    path: Path, folder: Path, taken: list[Path], reconstructor: "Reconstructor | None"
) -> tuple[Path, "Card"]:
    """Write the page of one photograph or mesh; also returns its card for the contact sheet."""
    from urllib.parse import quote

    from facerecon.views import report
    from facerecon.web_view import write_page

    if path.suffix.lower() in MESHES or reconstructor is None:
        text, picture = report.mesh_page(path), report.mesh_thumbnail(path)
    else:
        with small_faces_named(path):
            face = reconstructor(path)
        text = report.report(face, path.name, reconstructor.model)
        picture = report.thumbnail(face)
    page, number = folder / f"{path.stem}_view.html", 2
    while page in taken:  # a.jpg and a.glb, or two folders with the same names
        page, number = folder / f"{path.stem}-{number}_view.html", number + 1
    write_page(page, text)
    return page, report.Card(path.name, quote(page.name), picture)
