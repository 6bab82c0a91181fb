"""Run the notebooks of items through papermill: strictly, in parallel, and resumed."""

import ast
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from facerecon.pools import fresh_pool
from facerecon.repro.agreement import compare
from facerecon.repro.items import ITEMS, PRESETS, ReproductionError, RequestError, find_notebook
from facerecon.repro.progress import DRAFT, STEPS, VARIABLE, Watch
from facerecon.repro.record import code_hash
from facerecon.repro.targets import read_result

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
KEY = "facerecon"
"""Where an executed notebook's metadata says what it was made from."""

SET_BY = {"preset": "preset", "output_dir": "out"}
"""Parameters of every notebook that an option of the command sets."""


class Plan(NamedTuple):
    """One notebook to run: given are its parameters, key what its outcome depends on."""

    item: str
    notebook: Path
    given: dict[str, object]
    key: str

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return Path(str(self.given["output_dir"]))


def reproduce(
    items: Sequence[str],
    preset: str = "quick",
    parameters: Mapping[str, object] | None = None,
    out: Path = Path("figures"),
    jobs: int = 1,
    force: bool = False,
    data: Mapping[str, object] | None = None,
    against: Path | None = None,
) -> int:
    """Run the notebooks of some items; a failure does not stop the others.

    Each leaves `<out>/<item>/notebook.ipynb` with its outputs (after a failure, the error) and,
    beside it, the figures and the result.json that it writes itself. An item is skipped if that is
    there already, made from the same notebook, parameters, files, code and package versions.

    Args:
        items: keys of `ITEMS`; empty means all.
        preset: "quick" (minutes on a CPU) or "full".
        parameters: other values for the notebooks' parameters; texts are read as the type of the
            parameter's default.
        out: folder of the results.
        jobs: notebooks at a time; they share the processors' cores.
        force: run what is unchanged, too.
        data: parameters for those of the items that have them, such as `frgc`.
        against: folder of earlier results; say which numbers differ from them by more than their
            tolerance (`agreement`).

    Returns:
        0, or 1 if a notebook failed or a number differs by more than its tolerance.

    Raises:
        RequestError: before anything runs: an unknown item, preset or parameter, or a parameter
            that another argument sets.
        ReproductionError: before anything runs: a notebook that is missing or has no parameters,
            nothing to compare with in `against`, or papermill is not installed.
    """
    for item in items:
        if item not in ITEMS:
            raise RequestError(f"unknown item {item!r}; there are: {', '.join(ITEMS)}")
    if preset not in PRESETS:
        raise RequestError(f"unknown preset {preset!r}; there are: {', '.join(PRESETS)}")
    if jobs < 1:
        raise RequestError(f"the number of jobs must be at least 1, got {jobs}")
    items = list(dict.fromkeys(items or ITEMS))
    if against is not None and against.resolve() == out.resolve():
        raise RequestError(f"{against}: the results themselves, which agree; name an earlier run's")
    if against is not None and not against.is_dir():
        raise ReproductionError(f"--against {against}: no such folder")
    for item in items if against else []:
        if read_result(against / item) is None:
            raise ReproductionError(f"{against / item}: holds no result.json to compare with")
    plans = plan_items(items, preset, parameters or {}, data or {}, out)
    pending = [plan for plan in plans if force or not _is_done(plan)]
    for plan in plans:
        if plan not in pending:
            print(f"{plan.item}: unchanged, see {plan.folder} (--force runs it again)", flush=True)
    failed = [] if not pending else _run_all(pending, min(jobs, len(pending)))
    if failed:
        print(f"{len(failed)} of {len(plans)} failed: {', '.join(failed)}", file=sys.stderr)
    differ = False
    for plan in plans if against else []:
        agreement = compare(plan.item, plan.folder, against / plan.item)
        differ |= bool(agreement.differences)
        print(agreement, flush=True)
    return 1 if failed or differ else 0


def plan_items(
    items: Sequence[str],
    preset: str,
    parameters: Mapping[str, object],
    data: Mapping[str, object],
    out: Path,
) -> list[Plan]:
    """What `reproduce` would run, with the checks that it makes before anything runs."""
    for name, argument in {**SET_BY, **{name: name for name in data}}.items():
        if name in parameters:
            raise RequestError(f"parameter {name}: give --{argument} instead")
    code, unused, plans = code_hash(), set(data), []
    for item in items:
        notebook = find_notebook(item)
        given = {**parameters, "preset": preset, "output_dir": str((out / item).resolve())}
        defaults = read_parameters(notebook)
        given |= {name: value for name, value in data.items() if name in defaults}
        unused -= set(defaults)
        given = check_parameters(notebook, given, defaults)
        plans.append(Plan(item, notebook, given, _key(notebook, given, code)))
    if unused:
        name = sorted(unused)[0]
        raise RequestError(f"none of {', '.join(items)} takes --{name}; table_01 does")
    return plans


def read_parameters(notebook: Path) -> dict[str, object]:
    """The parameters of a notebook and their defaults.

    Raises:
        ReproductionError: the notebook has no cell tagged `parameters`.
    """
    found = _papermill().inspect_notebook(notebook)
    if not found:
        raise ReproductionError(f"{notebook}: tag the cell that sets its parameters 'parameters'")
    return {name: ast.literal_eval(entry["default"]) for name, entry in found.items()}


def check_parameters(
    notebook: Path, given: Mapping[str, object], defaults: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The values to inject into a notebook; papermill alone would only warn of unknown names.

    Raises:
        ReproductionError: the notebook has no cell tagged `parameters`.
        RequestError: a name is not in it, or a value is not of the type of the default.
    """
    defaults = read_parameters(notebook) if defaults is None else defaults
    for name in given:
        if name not in defaults:
            raise RequestError(
                f"{notebook.name} has no parameter {name!r}; there are: {', '.join(defaults)}"
            )
    return {name: _as_type_of(defaults[name], name, value) for name, value in given.items()}


def _as_type_of(default: object, name: str, value: object) -> object:
    """The value in the default's type; a text is read as a literal, or cut at commas for a list."""
    wanted = type(default)
    if isinstance(value, str) and wanted is not str:
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            if wanted is list:
                value = [part.strip() for part in value.split(",")]
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise RequestError(
            f"parameter {name}: {value!r} is not of type {wanted.__name__}, like {default!r}"
        )
    return value


def _key(notebook: Path, given: Mapping[str, object], code: str) -> str:
    digest = hashlib.sha256(code.encode() + notebook.read_bytes())
    for name, value in sorted(given.items()):
        digest.update(f"{name}={value!r}\0".encode())
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and item and Path(item).is_file():
                digest.update(Path(item).read_bytes())
    return digest.hexdigest()


def _is_done(plan: Plan) -> bool:
    try:
        notebook = json.loads((plan.folder / "notebook.ipynb").read_bytes())
        done = notebook["metadata"][KEY]
        return done == {"key": plan.key, "result": _result_hash(plan.folder)}
    except (OSError, ValueError, KeyError):
        return False


def _result_hash(folder: Path) -> str:
    """Of result.json: a record that another run or version control replaced is no longer ours."""
    path = folder / "result.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"


def _papermill() -> ModuleType:
    try:
        return import_module("papermill")
    except ImportError as error:
        raise ReproductionError(
            'papermill is needed to run notebooks: pip install "facerecon[notebooks]"'
        ) from error


def _run_all(plans: Sequence[Plan], jobs: int) -> list[str]:
    """Run notebooks; returns the items that failed."""
    failed: list[str] = []
    done = 0

    def finish(item: str, error: str, seconds: float, folder: Path) -> None:
        nonlocal done
        done += 1
        place = f"[{done}/{len(plans)}] {item}"
        if error:
            failed.append(item)
            print(f"{place}: FAILED, {error}; see {folder / 'notebook.ipynb'}", file=sys.stderr)
        else:
            print(f"{place}: done in {seconds:.0f} s, see {folder}", flush=True)

    if jobs == 1:
        for plan in plans:
            print(f"{plan.item}: running {plan.notebook}", flush=True)
            with Watch({plan.item: plan.folder}):
                outcome = run(plan)
            finish(plan.item, *outcome, plan.folder)
        return failed
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    # The kernels that the processes start inherit the number of threads.
    with fresh_pool(jobs, _set_threads, threads) as pool:
        futures = {pool.submit(run, plan): plan for plan in plans}
        print(f"{len(plans)} notebooks, {jobs} at a time", flush=True)
        try:
            with Watch({plan.item: plan.folder for plan in plans}) as watch:
                for future in as_completed(futures):
                    plan = futures[future]
                    with watch.silent():
                        finish(plan.item, *_outcome(future.result), plan.folder)
        finally:
            pool.shutdown(cancel_futures=True)
    return failed


# The kernel would warn for each notebook that it talks to this machine's own processes unencrypted.
_QUIET = ["--IPKernelApp.log_level=CRITICAL"]


def _set_threads(count: str) -> None:
    os.environ.update(dict.fromkeys(THREADS, count))


def _outcome(result: Callable[[], tuple[str, float]]) -> tuple[str, float]:
    try:
        return result()
    except Exception as error:  # the process itself died, of a lack of memory for instance
        return f"{type(error).__name__}: {error}", 0.0


def run(plan: Plan) -> tuple[str, float]:
    """Run one notebook; returns what went wrong ("": nothing) and the seconds it took."""
    from facerecon.files import remove_partial, require_writable, sole_writer, write_file

    papermill = _papermill()
    target = plan.folder / "notebook.ipynb"
    draft = plan.folder / DRAFT  # rewritten after every cell, not at once
    start = time.monotonic()
    try:
        with sole_writer(plan.folder):
            require_writable(plan.folder)
            remove_partial(plan.folder)
            os.environ[VARIABLE] = str(plan.folder / STEPS)  # the kernel inherits it
            try:
                papermill.execute_notebook(
                    plan.notebook, draft, plan.given, progress_bar=False, extra_arguments=_QUIET
                )
                content = json.loads(draft.read_bytes())
                content["metadata"][KEY] = {"key": plan.key, "result": _result_hash(plan.folder)}
                text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
                write_file(target, text.encode())
            except papermill.PapermillExecutionError:
                os.replace(draft, target)  # with the error in it
                raise
            finally:
                os.environ.pop(VARIABLE)
                for leftover in (draft, plan.folder / STEPS):
                    leftover.unlink(missing_ok=True)
    except Exception as error:  # of the notebook, its kernel or the disk: others may still run
        cause = f"{type(error).__name__}: {error}"
        if isinstance(error, papermill.PapermillExecutionError):
            cause = f"cell [{error.exec_count}], {error.ename}: {error.evalue or _line(error)}"
        return " ".join(cause.split())[:400], time.monotonic() - start
    return "", time.monotonic() - start


def _line(error: Exception) -> str:
    """The line of a cell that failed without a message, from papermill's error."""
    shown = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))  # without its colors
    marked = re.findall(r"^-+> *\d+ (.*)", shown, re.MULTILINE)
    return marked[0].strip() if marked else "no message"
