"""The command `facerecon reconstruct`. Imports wait for the run."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from facerecon.commands.options import coordinate, measure, results_folder
from facerecon.commands.outcome import EXIT_CODES, FAILED, OK, fail, say, small_faces_named

if TYPE_CHECKING:
    from facerecon.commands.outputs import Outputs
    from facerecon.pipeline import Reconstructor
    from facerecon.reconstruction import Reconstruction

MESH_FORMATS = ("ply", "obj", "stl", "glb")
FORMATS = (*MESH_FORMATS, "json")
SIZES = (200, 400)
ASSETS = {"normals": "normalnet.safetensors", "finenet": "finenet.safetensors"}
REFINEMENTS = tuple(ASSETS)  # the default first
REPORT, PREVIEW, SHEET = "_report.html", "_preview.png", "faces.html"
MODEL_MESH = "_model.glb"
DEPTH_AND_PREVIEW = ("_depth.npy", "_depth.png", "_depth.json", PREVIEW)


def add_reconstruct(commands: argparse._SubParsersAction) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "reconstruct",
        help="turn photographs into meshes and depth maps",
        description=(
            "Turn photographs into meshes and depth maps. For PHOTO.jpg, the output folder gets"
            " PHOTO.ply (mesh in mm), PHOTO_depth.npy (mm on the photograph's grid, NaN outside"
            " the face), PHOTO_depth.png (16 bits; PHOTO_depth.json says how to read it) and"
            " PHOTO_preview.png. A photograph that fails does not stop the others. No photograph"
            " and no file of another one is overwritten: names that are taken get a number. What"
            " is done is skipped when the command is given again."
        ),
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="photographs, folders of them, or patterns such as 'holiday/*.jpg'",
    )
    parser.add_argument(
        "--out", type=results_folder, required=True, metavar="DIR", help="output folder"
    )
    parser.add_argument(
        "--box",
        type=coordinate,
        nargs=4,
        metavar=("X", "Y", "W", "H"),
        help="the face in pixels (brows to chin), instead of asking the detector",
    )
    parser.add_argument(
        "--size",
        type=int,
        choices=SIZES,
        default=200,
        help="pixels of the face crop that is refined; 400 keeps more of a sharp photograph"
        " (default: 200)",
    )
    parser.add_argument(
        "--formats",
        type=_formats,
        default=("ply",),
        metavar="LIST",
        help=f"what to write of the face, separated by commas: {', '.join(MESH_FORMATS)}, or json:"
        " camera, pose and coefficients for other programs (default: ply)",
    )
    parser.add_argument(
        "--mesh",
        choices=("model",),
        help="model: also write PHOTO_model.glb, the morphable model's mesh, which has the same"
        " triangles for every face, with the photograph as texture, the detail as normal map and"
        " expressions as morph targets",
    )
    parser.add_argument(
        "--solid",
        type=measure,
        metavar="MM",
        help="also write PHOTO_solid.stl for a 3D printer: closed, with a flat back, at least MM"
        " thick",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="also write PHOTO_report.html, which shows the face in 3D in any browser, and, of"
        " several photographs, faces.html with links to all of them",
    )
    parser.add_argument("--overwrite", action="store_true", help="repeat what is done already")
    parser.add_argument("--all-faces", action="store_true", help="not only the largest face")
    parser.add_argument(
        "--refine",
        choices=REFINEMENTS,
        help="normals: our detail, the nearest to measured real faces; finenet: the paper's"
        " (default: normals)",
    )
    parser.add_argument("--no-refine", action="store_true", help="coarse shape only")
    parser.add_argument("--coarse", type=Path, metavar="FILE", help="other CoarseNet weights")
    parser.add_argument("--fine", type=Path, metavar="FILE", help="other weights of --refine")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.set_defaults(command=_reconstruct, usage_error=parser.error)


def _formats(text: str) -> tuple[str, ...]:
    formats = tuple(dict.fromkeys(part.strip().lower().lstrip(".") for part in text.split(",")))
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        known = ", ".join(FORMATS)
        raise argparse.ArgumentTypeError(f"unknown format {unknown[0]!r} (choose from {known})")
    return formats


def _reconstruct(args: argparse.Namespace) -> int:
    from facerecon.commands.outputs import Outputs, without_results
    from facerecon.files import require_writable
    from facerecon.imaging import ImageError, list_images
    from facerecon.messages import one_line
    from facerecon.pipeline import Reconstructor
    from facerecon.solid import MIN_THICKNESS_MM

    photos: list[Path] = []
    reports: list[Path] = []
    done = failures = 0
    for item in args.photos:
        try:
            found = list_images([item])
        except ImageError as error:
            failures += 1
            fail(error)
            continue
        if [Path(item)] != found:  # a folder or a pattern
            found = without_results(found)
        photos += [path for path in found if path not in photos]
    if args.box and (args.all_faces or len(photos) > 1):
        args.usage_error("--box goes with one photograph, and not with --all-faces")
    if args.box and min(args.box[2:]) <= 0:
        args.usage_error("--box: width and height must be above 0")
    if args.no_refine and (args.fine or args.refine):
        args.usage_error("--no-refine leaves out what --refine and --fine are about")
    args.refine = args.refine or REFINEMENTS[0]
    if args.solid is not None and args.solid < MIN_THICKNESS_MM:
        args.usage_error(f"--solid: at least {MIN_THICKNESS_MM} mm, got {args.solid:g}")
    if not photos:
        return FAILED
    reconstructor = Reconstructor.from_pretrained(
        args.coarse,
        args.fine,
        device=args.device,
        size=args.size,
        refine=None if args.no_refine else args.refine,
    )
    require_writable(args.out)
    outputs = Outputs(args.out, photos, _options(args))
    for number, path in enumerate(photos, start=1):
        place = f"[{number}/{len(photos)}] {path}"
        try:
            before = outputs.of(path)
            known = None if args.overwrite else outputs.finished(path)
            if known is None:
                meshes = _reconstruct_one(reconstructor, path, outputs, args)
        except (ValueError, OSError, MemoryError) as error:
            failures += 1
            message = str(error) or type(error).__name__
            fail(message if one_line(str(path)) in message else f"{path}: {message}")
            continue
        done += 1
        if known is not None:
            say(f"{place}: done before, see {args.out / known.files[0]} (--overwrite repeats)")
        else:
            for mesh in meshes:
                say(f"{place} -> {mesh}{outputs.changed(path, before)}")
        record = outputs.of(path)
        reports += [args.out / name for name in record.files if name.endswith(REPORT)]
    if len(reports) > 1:
        try:
            say(f"all {len(reports)} faces -> {_write_sheet(args.out, reports)}")
        except OSError as error:
            return fail(error)
    if failures and done + failures > 1:
        fail(f"{failures} failed, {done} done")
    return FAILED if failures else OK


def _options(args: argparse.Namespace) -> dict[str, object]:
    """What the files depend on besides the photograph, as JSON values."""
    import hashlib

    from facerecon import __version__
    from facerecon.weights import shipped

    weights = [args.coarse or shipped("coarsenet.safetensors")]
    if not args.no_refine:
        weights.append(args.fine or shipped(ASSETS[args.refine]))
    return {
        "version": __version__,
        "weights": [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in weights],
        "formats": list(args.formats),
        "size": args.size,
        "box": args.box,
        "solid": args.solid,
        "report": args.report,
        "mesh": args.mesh,
        "all_faces": args.all_faces,
        "refine": None if args.no_refine else args.refine,
    }


def _reconstruct_one(
    reconstructor: "Reconstructor", path: Path, outputs: "Outputs", args: argparse.Namespace
) -> list[Path]:
    """Write all files of one photograph; returns the meshes (the first format's)."""
    refine = not args.no_refine
    with small_faces_named(path):
        if args.all_faces:
            faces = reconstructor(path, all_faces=True, refine=refine)
        else:
            box = tuple(args.box) if args.box else None
            faces = [reconstructor(path, box, refine=refine)]
    names = partial(_names, args)
    stem = outputs.claim(path, path.stem, names)
    stems = [stem]
    for number in range(2, len(faces) + 1):
        stems.append(outputs.free_stem(path, f"{stem}_face{number}", names))
    files = [file for name in stems for file in names(name)]
    outputs.write_record(path, stem, files, done=False)
    meshes = [
        _write(face, args.out / name, args, reconstructor)
        for face, name in zip(faces, stems, strict=True)
    ]
    outputs.write_record(path, stem, files, done=True)
    return meshes


def _names(args: argparse.Namespace, stem: str) -> list[str]:
    """The names of one face's files, the first mesh first."""
    from facerecon.reconstruction import obj_companions

    names = [f"{stem}.{name}" for name in args.formats]
    if "obj" in args.formats:
        names += obj_companions(stem)
    if args.solid is not None:
        names.append(f"{stem}_solid.stl")
    if args.mesh == "model":
        names.append(f"{stem}{MODEL_MESH}")
    if args.report:
        names.append(f"{stem}{REPORT}")
    return names + [f"{stem}{rest}" for rest in DEPTH_AND_PREVIEW]


def _write(
    face: "Reconstruction", stem: Path, args: argparse.Namespace, reconstructor: "Reconstructor"
) -> Path:
    from facerecon.files import write_file
    from facerecon.model_mesh.export import model_mesh_writer
    from facerecon.parameters import save_parameters
    from facerecon.views.report import report
    from facerecon.views.viz import figure_png, preview

    for name in args.formats:
        if name == "json":
            save_parameters(face, reconstructor.model, f"{stem}.json")
        else:
            face.save(f"{stem}.{name}")
    if args.mesh == "model":
        model_mesh_writer(reconstructor.model).save(face, f"{stem}{MODEL_MESH}")
    if args.solid is not None:
        face.save_solid(f"{stem}_solid.stl", args.solid)
    if args.report:
        text = report(face, stem.name, reconstructor.model)
        write_file(Path(f"{stem}{REPORT}"), text.encode())
    face.save_depth(f"{stem}_depth.npy")
    face.save_depth(f"{stem}_depth.png")
    write_file(Path(f"{stem}{PREVIEW}"), figure_png(preview(face)))
    return Path(f"{stem}.{args.formats[0]}")


def _write_sheet(folder: Path, reports: Sequence[Path]) -> Path:
    """Write the page with links to the reports of a run; pictures: from the previews beside them.

    Raises:
        OutputError: the page cannot be written, or one of somebody else is there.
    """
    from urllib.parse import quote

    import numpy as np
    from PIL import Image

    from facerecon.files import jpeg
    from facerecon.views.report import Card, contact_sheet
    from facerecon.web_view import write_page

    cards = []
    for path in reports:
        stem = path.name.removesuffix(REPORT)
        with Image.open(path.with_name(f"{stem}{PREVIEW}")) as picture:
            small = picture.convert("RGB").resize(
                (900, round(900 * picture.height / picture.width))
            )
        cards.append(Card(stem, quote(path.name), jpeg(np.asarray(small))))
    return write_page(folder / SHEET, contact_sheet(cards, f"Faces in {folder.absolute().name}"))
