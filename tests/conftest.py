"""What all tests share: checked array shapes, one morphable model, seeded randomness."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

# Before torch is imported: small tests lose more to threads than they win, and on a busy machine
# threads that spin while they wait for each other lose very much.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "agg")

from jaxtyping import install_import_hook

# The modules that build data lie beside the package.
sys.path.insert(0, str(Path(__file__).parents[1] / "data_scripts"))

# Before they are imported: every shape in an annotation is checked on every call.
CHECKED = ["facerecon", "canvases", "cascades", "delight", "feature_matching"]
install_import_hook(CHECKED, "typecheck.checked")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from facerecon.morphable_model import MorphableModel  # noqa: E402

# The same examples on every run, and no deadline: the first call of a kernel compiles it.
settings.register_profile("facerecon", deadline=None, derandomize=True)
settings.load_profile("facerecon")


@pytest.fixture(scope="session")
def optional_data() -> Callable[[str], Path]:
    """Finds a file or folder below FACERECON_DATA (see the README); the test skips without it."""

    def find(name: str) -> Path:
        folder = os.environ.get("FACERECON_DATA")
        if not folder:
            pytest.skip(f"needs {name} in the folder that FACERECON_DATA names")
        if not (path := Path(folder) / name).exists():
            pytest.skip(f"FACERECON_DATA={folder} holds no {name}")
        return path

    return find


@pytest.fixture(scope="session")
def browser():
    """A Chromium that renders in software, on PATH or playwright's; without one the test skips."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    software = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    # A camera that shows a test picture, and that pages may use without asking.
    software += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=program, args=software)
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def model() -> MorphableModel:
    return MorphableModel.default()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
