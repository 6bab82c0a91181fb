"""The start of a notebook's run: are its parameters its own, and where do its results go?

`facerecon reproduce` checks parameters before anything runs. papermill alone, and JupyterLab with a
notebook that papermill wrote, do not: papermill warns of an unknown name and runs with the default.
So each notebook asks `start`, which looks at the cells that were run before it.
"""

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from facerecon.repro.items import PRESETS, RequestError

MARK = "# Parameters"
"""The first line of the cell that papermill injects after the one tagged `parameters`."""
PATHS = {"PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH"}
"""What papermill's own option --inject-paths adds."""


def start(output_dir: str) -> Path:
    """Check the parameters of the notebook that calls this, and make its folder of results.

    Args:
        output_dir: the notebook's parameter. A relative default lies beside the notebook that
            papermill writes, otherwise below the current folder.

    Returns:
        The folder; it exists.

    Raises:
        RequestError: papermill injected a parameter that the notebook does not have, or one of
            another type; or there is no such preset.
    """
    own, given = injected(_history())
    check_injected(own, given)
    folder = Path(output_dir)
    if given and "output_dir" not in given and (out := _papermill_output()) is not None:
        folder = out.parent / folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def injected(cells: Sequence[str]) -> tuple[dict[str, object], dict[str, object]]:
    """The notebook's own parameters and those that papermill injected, from the cells run so far.

    Returns:
        Two dictionaries from names to values, both empty if nothing was injected.
    """
    for place in range(len(cells) - 1, 0, -1):
        if cells[place].lstrip().splitlines()[:1] == [MARK]:
            own, given = _assigned(cells[place - 1]), _assigned(cells[place])
            return own, {name: value for name, value in given.items() if name not in PATHS}
    return {}, {}


def check_injected(own: Mapping[str, object], given: Mapping[str, object]) -> None:
    """Refuse what papermill injected if the notebook would not use it, or stumble over it.

    Raises:
        RequestError: a name is not among the notebook's own, a value is not of the type of the
            default, or the preset is unknown.
    """
    for name, value in given.items():
        if name not in own:
            raise RequestError(
                f"this notebook has no parameter {name!r}; there are: {', '.join(own)}"
            )
        wanted = type(own[name])
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            hint = f"; give -y '{name}: [{value}]'" if wanted is list else ""
            raise RequestError(
                f"parameter {name}: {value!r} is not of type {wanted.__name__},"
                f" like {own[name]!r}{hint}"
            )
    preset = {**own, **given}.get("preset", PRESETS[0])
    if preset not in PRESETS:
        raise RequestError(f"unknown preset {preset!r}; there are: {', '.join(PRESETS)}")


def _history() -> list[str]:
    """The source of the cells that this kernel has run, the last one being that which runs."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return list(shell.user_ns.get("In", [])) if shell else []


def _assigned(cell: str) -> dict[str, object]:
    found = {}
    try:
        for statement in ast.parse(cell).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                found[statement.targets[0].id] = ast.literal_eval(statement.value)
    except (SyntaxError, ValueError):  # somebody's own cell, which is not for us to judge
        pass
    return found


def _papermill_output() -> Path | None:
    """The notebook that the papermill command which started this kernel writes."""
    try:
        import psutil  # comes with ipykernel

        parent = psutil.Process().parent()
        command, place = (parent.cmdline(), Path(parent.cwd())) if parent else ([], Path())
    except (ImportError, OSError, psutil.Error):
        return None
    names = [Path(word).stem for word in command[:3]]
    books = [word for word in command[1:] if word.endswith(".ipynb")]
    return (place / books[1]).resolve() if "papermill" in names and len(books) > 1 else None
