"""Options of `facerecon evaluate detail` and `light`. Imports nothing heavy."""

import argparse
from pathlib import Path


def add_detail(
    kinds: argparse._SubParsersAction, shared: argparse.ArgumentParser, epilog: str
) -> None:
    """The kind `detail` of `facerecon evaluate`."""
    parser = kinds.add_parser(
        "detail",
        parents=[shared],
        help="FineNet on wrinkled faces with a known surface",
        description=(
            "Depth error (mm), normal error (degrees) and correlation of the high-pass depth with"
            " the truth, on synthetic faces (and on other --heads) with displacement wrinkles, for"
            " the coarse surface, FineNet, the per-image minimum of its energy (sfs) and FineNet"
            " trained on synthetic detail (supervised). Two coarse surfaces: the true one without"
            " wrinkles, and CoarseNet's. --out gets detail.json and a picture of each kind of face."
            " docs/evaluation.md defines the measures."
        ),
        epilog=epilog,
    )
    parser.add_argument("--fine", type=Path, metavar="FILE", help="other FineNet weights")
    parser.add_argument(
        "--supervised", type=Path, metavar="FILE", help="weights of the supervised FineNet"
    )
    parser.add_argument(
        "--heads", type=Path, metavar="FILE", help="ICT-FaceKit packed as .npz, or a model file"
    )
    parser.add_argument(
        "--sfs-steps",
        type=int,
        default=150,
        metavar="N",
        help="of the per-image minimisation; 0 leaves it out (default: 150)",
    )


def add_light(
    kinds: argparse._SubParsersAction, shared: argparse.ArgumentParser, epilog: str
) -> None:
    """The kind `light` of `facerecon evaluate`."""
    kinds.add_parser(
        "light",
        parents=[shared],
        help="recovered light and shading on faces under a known light",
        description=(
            "Angle of the recovered light and relative error of the recovered shading, Eqs. (11)"
            " and (12), in a Lambertian world and in the full one, first and second order, and"
            " where the ambiguity bites: flat light, dark skin, beards. --out gets light.json and"
            " light.png."
        ),
        epilog=epilog,
    )
