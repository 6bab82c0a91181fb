"""What can be reproduced, and where its notebook, its targets and its intermediate files lie."""

import os
from pathlib import Path

from facerecon.messages import OneLine

ITEMS = {
    "table_01": "paper/table_01",
    "fig_01": "paper/fig_01",
    "fig_02": "paper/fig_02",
    "fig_03": "paper/fig_03",
    "fig_04": "paper/fig_04",
    "fig_05": "paper/fig_05",
    "fig_06": "paper/fig_06",
    "fig_07": "paper/fig_07",
    "fig_08": "paper/fig_08",
    "fig_09": "paper/fig_09",
    "fig_10": "paper/fig_10",
    "fig_11": "paper/fig_11",
    "morphable_model": "01_morphable_model_and_projection",
    "synthetic_data": "02_synthetic_data",
    "coarsenet": "03_coarsenet",
    "differentiable_rendering": "04_differentiable_rendering",
    "lighting_and_albedo": "05_lighting_and_albedo",
    "finenet": "06_finenet",
    "end_to_end": "07_end_to_end",
    "frgc_evaluation": "08_frgc_evaluation",
}
"""What can be reproduced, and the notebook that does it: the paper's table and figures, then the
chapters."""

PRESETS = ("quick", "full")


class ReproductionError(OneLine, ValueError):
    """A reproduction cannot start; the message is one line: what is wrong and what to do."""


class RequestError(ReproductionError):
    """What was asked for does not exist, or does not go together."""


def find_notebook(item: str) -> Path:
    """The notebook of an item; see `find_file`."""
    return find_file(Path("notebooks") / f"{ITEMS[item]}.ipynb")


def find_file(name: str | Path) -> Path:
    """A file of the repository.

    It is sought in $FACERECON_ROOT if that is set; else in the current folder, the folders above
    it, and the clone that this package runs from.

    Raises:
        ReproductionError: it is not there; notebooks come with the repository, not with the wheel.
    """
    for folder in _folders():
        if (folder / name).is_file():
            return (folder / name).resolve()
    root = os.environ.get("FACERECON_ROOT")
    place = f"FACERECON_ROOT={root}" if root else f"{Path.cwd()} and the folders above it"
    raise ReproductionError(
        f"{name} is not in {place}; it comes with the repository: run this inside a clone, "
        "or set FACERECON_ROOT to one"
    )


def cache_folder() -> Path:
    """Where intermediate files go that several notebooks share, such as the benchmark.

    $FACERECON_CACHE, else `runs/cache` of the clone, else `facerecon` in the user's cache.
    """
    for folder in () if os.environ.get("FACERECON_CACHE") else _folders():
        if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file():
            return (folder / "runs" / "cache").resolve()
    from facerecon.files import user_cache  # loads numpy: not for every start of the command

    return user_cache()


def _folders() -> list[Path]:
    root = os.environ.get("FACERECON_ROOT")
    here = Path.cwd()
    return [Path(root)] if root else [here, *here.parents, *_own_clone()]


def _own_clone() -> list[Path]:
    """The clone that holds this package; empty for an installed wheel."""
    root = Path(__file__).resolve().parents[3]
    return [root] if (root / "notebooks").is_dir() and (root / "src").is_dir() else []
