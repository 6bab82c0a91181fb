"""The command `facerecon view`. Imports wait for the run."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from facerecon.commands.options import results_folder
from facerecon.commands.outcome import EXIT_CODES, FAILED, OK, fail, say, small_faces_named

if TYPE_CHECKING:
    from facerecon.pipeline import Reconstructor
    from facerecon.views.report import Card

MESHES = (".ply", ".obj", ".stl", ".glb")
SHEET = "faces.html"
PAGE = ".html"


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
        type=_folder_or_page,
        default=Path("."),
        metavar="DIR",
        help="output folder, or, of one FACE, the page's own name, which ends with .html (default:"
        " where the command is given)",
    )
    parser.add_argument(
        "--open", action="store_true", dest="show", help="open the page in the browser"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.set_defaults(command=_view, usage_error=parser.error)


def _folder_or_page(text: str) -> Path:
    return Path(text) if Path(text).suffix.lower() == PAGE else results_folder(text)


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
    own_name = args.out.suffix.lower() == PAGE and not args.out.is_dir()
    if own_name and len(paths) > 1:
        args.usage_error(f"--out {args.out}: one page shows one face; name a folder for several")
    require_writable(args.out.parent if own_name else args.out)
    reconstructor = None
    cards: list[Card] = []
    pages: list[Path] = []
    for number, path in enumerate(paths, start=1):
        try:
            if reconstructor is None and path.suffix.lower() not in MESHES and path.is_file():
                from facerecon.pipeline import Reconstructor

                reconstructor = Reconstructor.from_pretrained(device=args.device)
            page = args.out if own_name else _free_page(path, args.out, pages)
            card = _write_one(path, page, reconstructor)
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


def _free_page(path: Path, folder: Path, taken: list[Path]) -> Path:
    """The page of a photograph or mesh in a folder, none of those that this run wrote."""
    page, number = folder / f"{path.stem}_view.html", 2
    while page in taken:  # a.jpg and a.glb, or two folders with the same names
        page, number = folder / f"{path.stem}-{number}_view.html", number + 1
    return page


def _write_one(path: Path, page: Path, reconstructor: "Reconstructor | None") -> "Card":
    """Write the page of one photograph or mesh; returns its card for the contact sheet."""
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
    write_page(page, text)
    return report.Card(path.name, quote(page.name), picture)
