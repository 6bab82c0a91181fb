"""Notebooks: built from their sources, small, of one anatomy, with exercises whose checks can fail.

That they run is tested by `make test`, with nbmake.
"""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbclient import NotebookClient

from facerecon.course import ExerciseError
from facerecon.repro import Recorder, read_targets

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
INDEX = ROOT / "notebooks" / "index.py"
PAPER = sorted((ROOT / "notebooks" / "paper").glob("*.py"))
PACKAGES = {
    "facerecon",
    "torch",
    "numpy",
    "matplotlib",
    "skimage",
    "plotly",
    "ipywidgets",
    "IPython",
}
TAGS = {"parameters", "imports", "check", "exercise", "record"}
SECTIONS = ("## Exercises", "## What we did not reproduce", "## Review questions")
WRONG_ANSWERS = {
    "00_check_setup": [
        ("[0.299, 0.587, 0.114]", "[0.114, 0.587, 0.299]"),  # blue, green, red
        ("[0.299, 0.587, 0.114]", "[1 / 3, 1 / 3, 1 / 3]"),
    ],
    "01_morphable_model_and_projection": [
        ("(row - middle)", "(middle - row)"),  # rows go down
        ("(size - 1) / 2", "size / 2"),  # half a pixel
        (" / camera.POSE_UNITS[3]", ""),
        ("vertices[mirror]", "vertices"),
        ("[-1.0, 1.0, 1.0]", "[1.0, 1.0, 1.0]"),
        ("[-1.0, 1.0, 1.0]", "[1.0, -1.0, 1.0]"),
        ("(scan - mean)", "scan"),
        (" + torch.eye(len(basis), dtype=basis.dtype)", ""),  # no prior
        ("basis.T / sigma**2", "basis.T / sigma"),
    ],
    "02_synthetic_data": [
        ("beta[:, None] * r_gt", "(1 - beta[:, None]) * r_gt"),
        ("(1 - beta[:, None]) * r_rnd", "r_rnd"),
        ("starts[:, None], 0.0, r_t", "starts[:, None], r_rnd, r_t"),
        ("values.mean()", "image.mean()"),
        ("values.std(", "image.std("),
        ("0.5 * (image", "(image"),
        ("torch.where(mask, scaled, 0.0)", "scaled"),
        ("depths - point[:, None] <= bias", "depths - point[:, None] >= bias"),
        ("depths - point[:, None] <= bias", "depths - point[:, None] <= 0"),
        (
            "lit = depths - point[:, None]",
            "lit = (shares * depths).sum(1, keepdim=True) - point[:, None]",
        ),
        ("(electrons + noise) / full", "electrons / full + noise"),
        ("read * torch.randn(image.shape, generator=generator)", "0.0"),
        ("torch.poisson(image * full, generator=generator)", "image * full"),
    ],
    "03_coarsenet": [
        (" * model.vertex_weight", ""),
        ("moved.square().sum(dim=2)", "moved.norm(dim=2)"),
        (").sum(dim=1)", ").mean(dim=1)"),
        ("0.5 * geometry / first_geometry", "geometry / first_geometry"),
        ("pose / first_pose", "pose"),
        ("geometry / first_geometry", "geometry / first_pose"),
        ("truths.mean(axis=0)", "truths.mean()"),
        ("1 - wrong / spread", "wrong / spread"),
        (") ** 2).sum()", ")).sum()"),
        ("(states[-1] - states[-2])", "(states[-1])"),
        ("np.abs(states[-1] - states[-2]).max()", "np.abs(states[-1] - states[-2]).min()"),
        ("            break\n", "            pass\n"),
        ("step(states[-1])", "step(r)"),
    ],
    "04_differentiable_rendering": [
        ("area(p, b, c), area(a, p, c)", "area(a, p, c), area(p, b, c)"),
        (" / area(a, b, c)", ""),
        (".index_add_(0, vertex.flatten(),", ".index_put_((vertex.flatten(),),"),  # each once
        ("weights[seen] *", "(1 - weights[seen]) *"),
        ("-np.outer(weights, slope)", "np.outer(weights, slope)"),
        ("-np.outer(weights, slope)", "-np.outer(np.ones(3), slope)"),
        ("-np.outer(weights, slope)", "-np.outer(weights, slope[::-1])"),
    ],
    "05_lighting_and_albedo": [
        ("[1 / 4]", "[1 / 2]"),
        ("np.asarray(omega) / 2", "np.asarray(omega)"),
        ("rows.T @ (weight[:, None] * rows)", "rows.T @ rows"),
        ("weight * intensity", "intensity"),
        ("albedo[:, None] * np.column", "np.column"),
        ("bent @ bent", "slopes @ slopes"),
        ("[0, 0, 1]", "[mu, nu, 1]"),
        ("np.linalg.solve(G.T, lamp)", "G @ lamp"),
        ("lamps.T @ (weight[:, None] * lamps)", "lamps.T @ lamps"),
        ("lamps.T @ (weight * intensity)", "lamps.T @ intensity"),
        ("return scaled / albedo, albedo", "return scaled, albedo"),
    ],
    "06_finenet": [
        ("iokl,ihw->ohkwl", "iokl,ihw->olhkw"),  # columns in front
        ("iokl,ihw->ohkwl", "iokl,ihw->ohlwk"),  # rows for columns inside of a block
        ("- 4 * z[1:-1, 1:-1]", "- z[1:-1, 1:-1]"),
        ("np.abs(neighbors - 4 * z[1:-1, 1:-1])", "((neighbors - 4 * z[1:-1, 1:-1]) ** 2)"),
        ("(-l[1] - directed", "(l[1] - directed"),
        ("(-l[2] - directed * q / length)", "(-l[2])"),
        ("+ l[3]) / length", "- l[3]) / length"),
        ("D.T @ D + screen", "D.T @ D + screen**2"),
        ("D.T @ steps + screen * coarse", "D.T @ steps + coarse"),
        ("D.T @ steps + screen * coarse", "-D.T @ steps + screen * coarse"),
    ],
    "07_end_to_end": [
        ("np.abs(estimate - truth)", "estimate - truth"),
        ("error[np.isfinite(error)]", "np.nan_to_num(error)"),
        ("np.quantile(error, 0.9)", "np.quantile(error, 0.95)"),
        ("light[1] * n_x", "light[1] * n_y"),
        ("light[2] * n_y", "-light[2] * n_y"),
        ("albedo * (", "(albedo + "),
    ],
    "08_frgc_evaluation": [
        ("mask &= other", "pass"),
        ("np.median(difference)", "difference.mean()"),
        ("np.abs(difference - np.median(difference))", "np.abs(difference)"),
        ("(relief**2).sum()", "(goal**2).sum()"),
        ("depth - depth.mean(), truth - truth.mean()", "depth, truth"),
        ("rng.choice(people, len(people))", "people"),
        ("np.concatenate([scans[who] for who in chosen])", "rng.choice(values, len(values))"),
        ("rng.choice(people, len(people))", "rng.choice(people, len(values))"),
    ],
}


def load_tool(name: str) -> ModuleType:
    """A tool by its name, under which other tools import it, too."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


BUILD = load_tool("build_notebooks")
STUDENT = load_tool("make_student")
TABLE = load_tool("reproduction_table")


def cells_of(source: Path) -> list[nbformat.NotebookNode]:
    return nbformat.reads(BUILD.build(source.read_text("utf-8")), 4).cells


def tags_of(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def tagged(source: Path, tag: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in cells_of(source) if tag in tags_of(cell)]


each_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
each_or_paper = pytest.mark.parametrize("source", [*SOURCES, *PAPER], ids=lambda path: path.stem)

EXAMPLE = """# %% [markdown]
# # A title
# and $a_b$ in *words*

# %% tags=["parameters"]
seed = 0

# %%
print(seed)

# %%
print(seed)
"""


def test_the_committed_notebooks_are_those_of_their_sources() -> None:
    assert SOURCES
    assert BUILD.main(["--check"]) == 0


def test_a_rebuild_gives_the_same_bytes() -> None:
    first = BUILD.build(EXAMPLE)
    assert BUILD.build(EXAMPLE) == first
    assert first.endswith("}\n") and not first.endswith("\n\n")


def test_cells_keep_tags_and_text_and_hold_no_outputs() -> None:
    notebook = nbformat.reads(BUILD.build(EXAMPLE), 4)
    nbformat.validate(notebook)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code", "code"]
    assert notebook.cells[0].source == "# A title\nand $a_b$ in *words*"
    assert [tags_of(cell) for cell in notebook.cells] == [[], ["parameters"], [], []]
    assert all(not c.outputs and c.execution_count is None for c in notebook.cells[1:])
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == 4  # equal cells have different ids, too


def test_an_edited_cell_keeps_the_ids_of_the_others() -> None:
    before = nbformat.reads(BUILD.build(EXAMPLE), 4).cells
    after = nbformat.reads(BUILD.build(EXAMPLE.replace("seed = 0", "seed = 1")), 4).cells
    assert [a.id == b.id for a, b in zip(before, after, strict=True)] == [True, False, True, True]


def test_check_finds_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--folder", str(tmp_path)]
    assert BUILD.main([*folder, "--check"]) == 1
    assert "no notebook sources" in capsys.readouterr().err

    (tmp_path / "01_a.py").write_text(EXAMPLE)
    assert BUILD.main([*folder, "--check"]) == 1
    assert not (tmp_path / "01_a.ipynb").exists()
    assert BUILD.main(folder) == 0
    assert BUILD.main([*folder, "--check"]) == 0

    (tmp_path / "01_a.ipynb").write_bytes((tmp_path / "01_a.ipynb").read_bytes() + b" ")
    assert BUILD.main([*folder, "--check"]) == 1
    assert "01_a.ipynb: differs" in capsys.readouterr().err
    assert BUILD.main(folder) == 0
    assert BUILD.main([*folder, "--check"]) == 0

    (tmp_path / "02_b.ipynb").write_text("{}")
    assert BUILD.main(folder) == 1
    assert "02_b.ipynb: has no source" in capsys.readouterr().err


@each_or_paper
def test_sizes(source: Path) -> None:
    cells = cells_of(source)
    assert len(cells) <= 100
    assert len(BUILD.build(source.read_text("utf-8"))) <= 150_000
    limits = {"code": 25 if source in PAPER else 20, "markdown": 28}
    cells = [cell for cell in cells if "Exercise(" not in cell.source]  # with all its messages
    too_long = [c.source for c in cells if len(c.source.splitlines()) > limits[c.cell_type]]
    assert not too_long, "\n\n".join(too_long)
    code = [line for c in cells if c.cell_type == "code" for line in c.source.splitlines()]
    assert [line for line in code if len(line) > 88] == []


@each_notebook
def test_anatomy(source: Path) -> None:
    cells = cells_of(source)
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    assert {tag for cell in cells for tag in tags_of(cell)} <= TAGS
    code_tags = [tags_of(cell) for cell in cells if cell.cell_type == "code"]
    if source.stem == "00_check_setup":
        assert code_tags.pop(1) == ["check"]  # of what the imports need
    assert code_tags[:2] == [["parameters"], ["imports"]]
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    places = [text.index(section) for section in SECTIONS]
    assert places == sorted(places)
    wanted = ("you will be able to do", "Before you start.", "**Notation.**", "## Summary\n")
    assert [words for words in wanted if words not in text] == []
    assert source.stem[:2] in ("00",) or "concepts." in "".join(c.source for c in cells)
    assert cells[-1].source.startswith("## Further reading")
    assert tags_of(cells[-2]) == ["record"] and "record(" in cells[-2].source


@each_or_paper
def test_parameters_are_literals(source: Path) -> None:
    (cell,) = tagged(source, "parameters")
    names = []
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign) and len(statement.targets) == 1
        ast.literal_eval(statement.value)
        names.append(statement.targets[0].id)
    assert {"preset", "seed", "output_dir"} <= set(names)


@each_or_paper
def test_imports_are_in_one_cell_and_of_listed_packages(source: Path) -> None:
    for cell in cells_of(source):
        if cell.cell_type != "code":
            continue
        imports = [
            node
            for node in ast.walk(ast.parse(cell.source))
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        early = source.stem == "00_check_setup" and "NEEDED" in cell.source
        assert not imports or early or tags_of(cell) == ["imports"], cell.source
        for node in imports:
            names = (
                [node.module]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
            for name in names:
                top = name.split(".")[0]
                assert (top in PACKAGES and not early) or top in sys.stdlib_module_names, name


@each_or_paper
def test_checks_assert_something(source: Path) -> None:
    checks = tagged(source, "check")
    assert checks
    for cell in checks:
        nodes = list(ast.walk(ast.parse(cell.source)))
        asserts = [node for node in nodes if isinstance(node, ast.Assert)]
        called = {node.func.attr for node in nodes if isinstance(node, ast.Call)
                  and isinstance(node.func, ast.Attribute)}  # fmt: skip
        raised = [node for node in nodes if isinstance(node, ast.Raise)]
        assert asserts or raised or called & {"equal", "true"}, cell.source
        assert not any(isinstance(node.test, ast.Constant) for node in asserts), cell.source


@each_or_paper
def test_a_failed_assertion_says_what_was_measured(source: Path) -> None:
    for cell in cells_of(source):
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Assert):
                message = ast.walk(node.msg) if node.msg else ()
                values = [part for part in message if isinstance(part, ast.FormattedValue)]
                assert values, f"no number in the message of: {ast.unparse(node)}"


@each_or_paper
def test_facerecon_comes_before_torch(source: Path) -> None:
    """It tells torch's threads how to wait, which they read once, when torch is loaded."""
    (cell,) = tagged(source, "imports")
    names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
             for node in ast.parse(cell.source).body]  # fmt: skip
    tops = [name.split(".")[0] for name in names]
    assert "torch" not in tops[: tops.index("facerecon")]


@each_notebook
def test_exercises_pass_with_their_solution_and_fail_otherwise(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exercises use nothing but the imports, so they can be tried here without the notebook."""
    cells = cells_of(source)
    places = [i for i, cell in enumerate(cells) if "exercise" in tags_of(cell)]
    assert places
    (imports,) = tagged(source, "imports")
    wrong_answers = list(WRONG_ANSWERS[source.stem])
    for place in places:
        exercise = cells[place].source
        assert "check" in tags_of(cells[place + 1]), f"no check follows\n{exercise}"
        check = cells[place + 1].source
        stub, cuts = STUDENT.cut(exercise)
        assert cuts == 1, exercise
        capsys.readouterr()
        run(imports.source, exercise, check)
        assert " is right: " in capsys.readouterr().out
        run(imports.source, stub, check)
        said = capsys.readouterr()
        assert " is right" not in said.out and "not solved yet" in said.err
        unfinished = stub.replace("raise NotImplementedError", "return None")
        with pytest.raises(ExerciseError, match="None"):
            run(imports.source, unfinished, check)
        here = [(old, new) for old, new in wrong_answers if old in exercise]
        assert len(here) >= 2, f"list wrong answers to\n{exercise}"
        for old, new in here:
            wrong_answers.remove((old, new))
            with pytest.raises(ExerciseError):
                run(imports.source, exercise.replace(old, new), check)
    assert not wrong_answers, "not found in any exercise"


def test_the_students_notebooks_hold_no_solution(tmp_path: Path) -> None:
    assert STUDENT.main(["--out", str(tmp_path)]) == 0
    names = [source.name for source in [*SOURCES, INDEX]]
    assert sorted(p.name for p in tmp_path.glob("*.py")) == names
    for source in SOURCES:
        full = cells_of(source)
        student = nbformat.read(tmp_path / f"{source.stem}.ipynb", 4).cells
        assert len(student) == len(full)
        changed = [b for a, b in zip(full, student, strict=True) if a.source != b.source]
        assert changed and all("exercise" in tags_of(cell) for cell in changed)
        assert all("raise NotImplementedError" in cell.source for cell in changed)
        assert not any("SOLUTION" in cell.source for cell in student if cell.cell_type == "code")


def test_a_solution_without_end_is_refused() -> None:
    marked = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n\n\nf()\n"
    text, count = STUDENT.cut(marked)
    assert count == 1 and text.endswith("    raise NotImplementedError\n\n\nf()\n")
    with pytest.raises(ValueError, match="has no partner"):
        STUDENT.cut(marked.replace("    ### END SOLUTION\n", ""))


@pytest.mark.slow
def test_run_all_goes_past_what_a_student_has_not_solved(tmp_path: Path) -> None:
    assert STUDENT.main(["--out", str(tmp_path)]) == 0
    notebook = nbformat.read(tmp_path / "00_check_setup.ipynb", 4)
    NotebookClient(notebook, resources={"metadata": {"path": tmp_path}}).execute()
    said = [
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr" and "check" in tags_of(cell)
    ]
    assert said == ["0.1 is not solved yet. exercise.hint() prints a hint.\n"]


def test_chapter_0_says_what_its_kernel_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    (check,) = [cell for cell in cells_of(SOURCES[0]) if "NEEDED" in cell.source]
    run(check.source)
    assert sys.executable in capsys.readouterr().out
    lacking = check.source.replace('"facerecon torch', '"facerecon no_such_package torch')
    with pytest.raises(ImportError, match="lacks: no_such_package") as caught:
        run(lacking)
    assert len(caught.value._render_traceback_()) == 1
    assert "Change Kernel" in str(caught.value) and "pip install" in str(caught.value)


def test_the_index_links_every_chapter_and_computes_nothing() -> None:
    cells = cells_of(INDEX)
    text = "\n".join(cell.source for cell in cells)
    assert [s.stem for s in SOURCES if f"]({s.stem}.ipynb)" not in text] == []
    (code,) = [cell for cell in cells if cell.cell_type == "code"]
    assert {type(node) for node in ast.parse(code.source).body} == {ast.Import}


def test_links_of_the_notebooks_lead_to_files() -> None:
    link = re.compile(r"\]\(((?!https?:|#)[^)#]+)")
    for source in [*SOURCES, INDEX]:
        texts = [cell.source for cell in cells_of(source) if cell.cell_type == "markdown"]
        for target in link.findall("\n".join(texts)):
            assert (source.parent / target).exists(), f"{source.name}: {target}"


def test_the_readmes_reproduction_table_is_current() -> None:
    assert TABLE.main(["--check"]) == 0, "run tools/reproduction_table.py"


def test_the_table_goes_between_its_marks() -> None:
    readme = f"before\n{TABLE.BEGIN}\nold\n{TABLE.END}\nafter\n"
    assert TABLE.updated(readme, "new") == readme.replace("old", "new")
    with pytest.raises(ValueError, match="needs the lines"):
        TABLE.updated("nothing", "new")


@pytest.mark.parametrize("source", PAPER, ids=lambda path: path.stem)
def test_a_reproduction_quotes_the_paper_and_sets_its_outcome_beside(source: Path) -> None:
    aim = read_targets(ROOT / "figures/targets.toml")[source.stem]
    cells = cells_of(source)
    head = " ".join(cells[0].source.replace("\n> ", " ").split())
    assert (
        aim.caption in head
        and f"section{'s' if 'and' in aim.section else ''} {aim.section}" in head
    )
    assert aim.title.split(",")[0] in cells[0].source.splitlines()[0]
    assert {tag for cell in cells for tag in tags_of(cell)} <= TAGS
    (recorded,) = [cell for cell in cells if "record.outcome(" in cell.source]
    assert recorded is cells[-2] and tags_of(recorded) == ["record"]
    assert cells[-1].source == f'repro.judge_item("{source.stem}", output)'
    assert f'"runs/{source.stem}"' in tagged(source, "parameters")[0].source


@pytest.mark.parametrize("source", [*SOURCES, *PAPER], ids=lambda path: path.stem)
def test_a_notebook_writes_below_the_folder_that_it_runs_in(source: Path) -> None:
    """So that papermill, called anywhere, leaves nothing but in the folder of its output."""
    scope: dict[str, object] = {}
    exec(tagged(source, "parameters")[0].source, scope)
    place = Path(str(scope["output_dir"]))
    assert not place.is_absolute() and ".." not in place.parts and place.parts[0] == "runs"


@pytest.mark.slow
def test_papermill_in_another_folder_writes_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    before = git_status()
    command = [sys.executable, "-m", "papermill", "--no-progress-bar"]
    notebook = ROOT / "notebooks" / "paper" / "fig_03.ipynb"
    subprocess.run([*command, str(notebook), "out.ipynb"], cwd=folder, check=True)
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    results = {"runs/fig_03/figure.png", "runs/fig_03/result.json", "out.ipynb"}
    assert files == {f"deep/er/{name}" for name in results}
    assert git_status() == before


def git_status() -> str:
    """Which files of the clone are new or changed, also of those that git ignores."""
    command = ["git", "-C", str(ROOT), "status", "--porcelain", "--ignored=matching"]
    status = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return "\n".join(line for line in status if "__pycache__" not in line)


def run(*cells: str) -> None:
    scope: dict[str, object] = {}
    for cell in cells:
        exec(compile(cell, "<cell>", "exec"), scope)


def test_rows_of_ours_have_the_tables_columns_and_numbers_by_reference(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    (tmp_path / "benchmarks/results/yale.json").write_text('{"means": [{"normals": 12.83}]}')
    own = 'here = "<!-- = yale > means > 0 > normals : .1f --><!-- /= -->°"\n'
    own = f'[yale]\ntitle = "People"\n{own}data = "ten"\nreason = "Measured."\n'
    (tmp_path / "figures/ours.toml").write_text(own)
    (row,) = TABLE.own_rows(tmp_path)
    assert row.count("|") == 6 and "-->12.8<!-- /= -->°" in row
    assert row.startswith("| People | not in the paper |")
    assert row.endswith("| ten | *ours, not the paper's*: Measured. |")
    (tmp_path / "figures/ours.toml").write_text(own.replace("means", "medians"))
    with pytest.raises(TABLE.ReferenceFault, match=r"figures/ours\.toml, yale"):
        TABLE.own_rows(tmp_path)


def test_all_rows_of_ours_stand_in_the_readme() -> None:
    rows = TABLE.own_rows(ROOT)
    table = (ROOT / "README.md").read_text("utf-8").split(TABLE.BEGIN)[1].split(TABLE.END)[0]
    assert len(rows) == 3 and all(row in table for row in rows)
    files = re.findall(r"\(benchmarks/results/(\w+)\.json\)", "\n".join(rows))
    assert files == ["yale", "light", "people"]


def test_the_status_table_sets_ours_beside_the_papers(tmp_path: Path) -> None:
    targets = read_targets(Path(__file__).parents[1] / "figures/targets.toml")
    (tmp_path / "figures").mkdir()
    shutil.copy(ROOT / "figures/claims.toml", tmp_path / "figures")
    record = Recorder(tmp_path / "figures/fig_11", preset="quick", seed=0, data="one face")
    for name, value in (("correlation", 0.9), ("step_200_mm", 0.2), ("step_400_mm", 0.1)):
        record(f"a, FineNet/{name}", value)
    record.outcome("3 mm")
    head, _, first, *rest, last = TABLE.status_table(tmp_path, targets).splitlines()
    assert len(rest) == 10 and head.count("|") == first.count("|") == last.count("|")
    assert "| pictures | 3 mm | one face (preset quick) | *does not reproduce*: “it allows" in last
    assert "does not hold: at 400 pixels" in last and "0.50 to 0.50 times those at 200. |" in last
    assert "run `facerecon reproduce table_01`" in first and "| *not run* |" in first
