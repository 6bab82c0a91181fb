import ast
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import tomllib
import yaml
from packaging.requirements import Requirement

import facerecon

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "facerecon"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Names on conda-forge that differ from those on the Python package index.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
PIP_ONLY = {"opencv-python-headless", "dlib-bin"}  # conda's do not count as these

# Imported by the function that needs them, never when a module is loaded.
LAZY = {
    "plotly", "papermill", "nvdiffrast", "tensorboard", "skimage", "ipywidgets", "IPython", "h5py",
    "dask", "dlib", "anywidget", "traitlets", "av",
    "onnx", "onnxruntime", "onnxscript",
}  # fmt: skip
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow"}


def requirements(lines) -> dict[str, Requirement]:
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


RUNTIME = requirements(PROJECT["dependencies"])
EXTRAS = {name: requirements(lines) for name, lines in PROJECT["optional-dependencies"].items()}


def test_environment_yml_is_in_step():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    wanted = {**RUNTIME, **EXTRAS["notebooks"]}
    ranges = {"python": PROJECT["requires-python"], "pip": ""}
    ranges |= {
        CONDA_NAMES.get(name, name): str(requirement.specifier)
        for name, requirement in wanted.items()
        if name not in PIP_ONLY
    }
    found = {re.split(r"[<>=!]", line)[0]: line for line in conda}
    assert found.keys() == ranges.keys()
    for name, line in found.items():
        assert Requirement(line).specifier == Requirement(f"{name}{ranges[name]}").specifier, name
    *pip_lines, editable = pip["pip"]
    assert editable == "--editable ."
    from_pip = requirements(pip_lines)
    assert from_pip.keys() == PIP_ONLY
    for name, requirement in from_pip.items():
        assert requirement.specifier == wanted[name].specifier
    binder = yaml.safe_load((ROOT / "binder/environment.yml").read_text())["dependencies"]
    assert f"pytorch-cpu{RUNTIME['torch'].specifier}" in [
        str(Requirement(line)) for line in binder if line.startswith("pytorch")
    ]


def test_one_version():
    assert facerecon.__version__ == PROJECT["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert versions[:2] == ["Unreleased", PROJECT["version"]]
    assert len(set(versions)) == len(versions)


def test_public_names_exist():
    for name in facerecon.__all__:
        assert getattr(facerecon, name).__module__.startswith("facerecon.")
    assert set(facerecon.__all__) <= set(dir(facerecon))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = facerecon.nonsense


def test_wheel_holds_the_package_and_its_assets(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    found = (PACKAGE / "assets").rglob("*")
    assets = [p for p in found if p.is_file() and not p.name.startswith(".")]
    assert PACKAGE / "assets" / "morphable_model.npz" in assets
    expected = {path.relative_to(PACKAGE.parent).as_posix() for path in [*SOURCES, *assets]}
    assert expected == {name for name in names if name.startswith("facerecon/")}
    entry = f"facerecon-{PROJECT['version']}.dist-info/entry_points.txt"
    assert "facerecon = facerecon.cli:main" in zipfile.ZipFile(wheel).read(entry).decode()
    assert wheel.stat().st_size < 50e6  # bytes; package indexes refuse 100 MB
    # Installed without a clone: it starts, and what needs a clone says so in one line.
    site, empty = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(site)
    empty.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "FACERECON_ROOT"}
    environment |= {"PYTHONPATH": str(site)}

    def run(*arguments: str) -> subprocess.CompletedProcess:
        program = [sys.executable, "-m", "facerecon", *arguments]
        options = {"capture_output": True, "text": True, "check": False}
        return subprocess.run(program, cwd=empty, env=environment, **options)

    assert run("--version").stdout == f"facerecon {PROJECT['version']}\n"
    refused = run("reproduce", "fig_02")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert "comes with the repository: run this inside a clone" in refused.stderr


def imports(tree: ast.Module, everywhere: bool) -> set[str]:
    """Dotted names of imported modules; not those below `if TYPE_CHECKING`."""
    nodes, found = list(tree.body), set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes += list(ast.iter_child_nodes(node))
    return found


def module(path: Path) -> str:
    """Dotted name within facerecon; a sub-package goes by its own name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module(path) for path in SOURCES}


def own(names: set[str]) -> set[str]:
    """The modules that these names are, or are attributes of."""
    inner = {name.removeprefix("facerecon.") for name in names if name.startswith("facerecon.")}
    # `from package import module` imports the module; `package` itself stays for its attributes.
    found = {name if name in MODULES else name.rpartition(".")[0] for name in inner} & MODULES
    return {
        name for name in found if not any(other.startswith(f"{name}.") for other in inner & MODULES)
    }


@pytest.mark.parametrize("everywhere", [False, True])
def test_imports_go_one_way(everywhere):
    graph = {module(p): own(imports(ast.parse(p.read_text()), everywhere)) for p in SOURCES}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert "render" in graph["pipeline"]
    # What shows, runs and trains stands above what computes.
    top = {"views.viz", "views.explorer", "views.face_viewer", "pipeline", "repro", "cli"}
    top |= {"__main__", "views.report", "demo"}
    top |= {"realism.report", "methods.registry", "scans.run", "evaluation.yale_methods"}
    top |= {"evaluation.lamps"}
    top |= {name for name in order if name.startswith(("commands.", "repro.", "video."))}
    assert top <= set(order)
    for name in set(order) - top - {"__init__"}:
        assert not graph[name] & top, f"{name} imports {graph[name] & top}"


def test_packages_do_not_import_each_other_in_circles():
    """As above, with every package as one node: no two of them depend on each other."""
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        package, *_ = module(path).split(".")
        used = {name.split(".")[0] for name in own(imports(ast.parse(path.read_text()), True))}
        graph.setdefault(package, set()).update(used - {package})
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert {"detection", "methods", "scans", "weights"} <= set(order)
    # The paper's method knows nothing of what trains, evaluates and compares it.
    for name in ("coarsenet", "finenet", "losses", "sfs", "appearance", "detection", "pipeline"):
        assert not graph[name] & {"training", "evaluation", "methods", "scans", "synthetic"}, name


def test_third_party_imports_are_declared_and_heavy_ones_lazy():
    for path in SOURCES:
        at_load = {name.split(".")[0] for name in imports(ast.parse(path.read_text()), False)}
        third_party = at_load - set(sys.stdlib_module_names) - {"facerecon"}
        assert not third_party & LAZY, path
        distributions = {DISTRIBUTIONS.get(name, name) for name in third_party}
        assert distributions <= RUNTIME.keys(), path


def test_source_keeps_the_house_rules():
    banned = {"exit", "quit", "os._exit", "pickle.load", "pickle.loads", "eval", "exec"}
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path}: a module says what it is for"
        strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
        assert "cuda" not in strings, f"{path}: the device follows the inputs"
        assert "__future__" not in imports(tree, False), f"{path}: it would blind the shape checks"
        calls = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        assert not calls & banned, path
        assert "sys.exit" not in calls or path.stem == "__main__", path
        stars = [n for n in ast.walk(tree) if isinstance(n, ast.alias) and n.name == "*"]
        assert not stars, path


BRITISH = re.compile(
    r"\w*(?:colour|centre|neighbour|behaviour|favour|labelled|modelled|learnt|(?:normal|optim|raster"
    r"|minim|maxim|initial|regular|general|standard|serial|quant|recogn)is(?:e|ing|ation))\w*",
    re.IGNORECASE,
)


def test_spelling_is_american():
    # Names in files that were written before stay.
    allowed = {("02_synthetic_data.py", "skin_colour_variance_shares"), ("subjects.py", "centre")}
    texts = [*SOURCES, *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/**/*.py")]
    found = {(path.name, word) for path in texts for word in BRITISH.findall(path.read_text())}
    assert found <= allowed


def test_torch_load_is_always_of_weights_only():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", f"{path.name}:{node.lineno}"


def test_ci_runs_what_make_runs():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert "TORCH ?= torch==" in makefile
    pinned = re.search(r"^TORCH \?= (torch==\S+)", makefile, re.MULTILINE).group(1)
    version = pinned.removeprefix("torch==")
    assert version in RUNTIME["torch"].specifier


def test_the_diagram_of_the_imports_knows_the_modules():
    spec = importlib.util.spec_from_file_location("diagram", ROOT / "tools/import_diagram.py")
    diagram = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(diagram)
    graph = diagram.import_graph()
    assert graph.keys() >= diagram.PAPER
    direct = diagram.reduced(graph)
    assert "coarsenet" in graph["pipeline"] and "coarsenet" not in direct["pipeline"]
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    assert {name for name in graph if f"`{name}" not in page} <= {"cli"}


def test_scripts_import_what_is_there():
    """Benchmarks, tools and data scripts are run by hand: a moved module would show there alone."""
    folders = ("benchmarks", "data_scripts", "tools")
    for path in sorted(path for name in folders for path in (ROOT / name).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("facerecon"):
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                found = own(names)
                assert found or node.module == "facerecon", f"{path}: no {node.module}"
