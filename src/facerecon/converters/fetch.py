"""Downloads ICT-FaceKit at a pinned commit; every file is checked before it takes its name."""

import hashlib
import urllib.error
import urllib.request
from importlib.resources import files
from pathlib import Path

from tqdm import tqdm

from facerecon.converters.ict import FAMILY, FOLDER
from facerecon.converters.source import sha256
from facerecon.files import write_file

COMMIT = "da5f95a607f5e6b37755b38d3385d7f2853732e5"
ADDRESS = f"https://raw.githubusercontent.com/ICT-VGL/ICT-FaceKit/{COMMIT}/"
TIMEOUT = 60  # seconds


def checksums() -> dict[str, str]:
    """SHA-256 by path in the repository, of the commit's files that a conversion needs."""
    text = (files("facerecon") / "assets" / "ict_facekit.sha256").read_text("utf-8")
    return {name: digest for digest, name in (line.split() for line in text.splitlines())}


def fetch_ict(folder: Path, address: str = ADDRESS, wanted: dict[str, str] | None = None) -> Path:
    """Download what is not yet there (about 390 MB); returns the folder FaceXModel.

    Args:
        folder: where FaceXModel and the licence go; made if need be.
        address: of the repository's files, with a slash at the end.
        wanted: SHA-256 by path; those of the pinned commit if None.

    Raises:
        OSError: a file cannot be had, or its content is not the one expected.
    """
    for name, digest in tqdm((wanted or checksums()).items(), unit="file"):
        path = folder / name
        if path.is_file() and sha256([path]) == digest:
            continue
        try:
            with urllib.request.urlopen(address + name, timeout=TIMEOUT) as answer:
                content = answer.read()
        except (urllib.error.URLError, OSError) as error:
            raise OSError(
                f"{address}{name}: cannot be fetched ({error}); {FAMILY.help()}"
            ) from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise OSError(
                f"{address}{name}: its SHA-256 is not the one of commit {COMMIT[:7]}, so it was"
                " not kept; try again, or download the repository by other means"
            )
        write_file(path, content)
    return folder / FOLDER
