"""Which files of an output folder belong to which photograph, so that none is lost.

For each photograph the folder keeps a record, `.facerecon/NAME.json`: the photograph, its hash, the
options and the files. The record is written before the first file and again after the last one, so
a run that was killed is finished by giving the command again.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import uuid4

from facerecon.files import remove_partial, write_file

FOLDER = ".facerecon"
LONGEST = 210
"""Bytes of a stem: with what is added to it, a name still fits the 255 of a file system."""


@dataclass(frozen=True)
class Record:
    """What was made of one photograph.

    photo: its absolute path. sha256: of its bytes. options: what the files depend on besides.
    files: names in the output folder. done: whether all of them were written. earlier: names of
        files that runs with other options made of it.
    """

    photo: str
    sha256: str
    options: dict[str, object]
    files: list[str]
    done: bool
    earlier: list[str] = field(default_factory=list)

    @property
    def all_files(self) -> list[str]:
        """Everything that was made of the photograph."""
        return [*self.files, *self.earlier]


def read_records(folder: Path) -> dict[str, Record]:
    """The records of an output folder by name; damaged ones count as not there."""
    records = {}
    for path in sorted((folder / FOLDER).glob("*.json")):
        if record := _read(path):
            records[path.stem] = record
    return records


def _read(path: Path) -> Record | None:
    try:
        record = Record(**json.loads(path.read_bytes()))
        return record if all(isinstance(name, str) for name in record.all_files) else None
    except (OSError, ValueError, TypeError):
        return None


def without_results(photos: Iterable[Path]) -> list[Path]:
    """The photographs, less the pictures that an earlier run wrote into the same folder."""
    results: dict[Path, set[str]] = {}
    kept = []
    for path in photos:
        folder = path.parent
        if folder not in results:
            records = read_records(folder).values()
            results[folder] = {_plain(name) for record in records for name in record.all_files}
        if _plain(path.name) not in results[folder]:
            kept.append(path)
    return kept


class Outputs:
    """The output folder of one run.

    Args:
        folder: made when the first file is written.
        photos: the inputs of the run, which no output may overwrite.
        options: what the files depend on besides the photograph.
    """

    def __init__(self, folder: Path, photos: Sequence[Path], options: Mapping[str, object]):
        self.folder, self.options = folder, dict(options)
        remove_partial(folder)
        remove_partial(folder / FOLDER)
        self.records = read_records(folder)
        self._inputs = {_plain(_absolute(path)) for path in photos}
        self._owner: dict[str, str] = {}  # of each file's name: the photograph it was made of
        for record in self.records.values():
            self._own(record.photo, record.all_files)

    def of(self, photo: Path) -> Record | None:
        """The record of this photograph."""
        mine = (each for each in self.records.values() if each.photo == _absolute(photo))
        return next(mine, None)

    def finished(self, photo: Path) -> Record | None:
        """The record of this photograph if all was done before, with the same options."""
        record = self.of(photo)
        if record is None or not record.done or record.options != self.options:
            return None
        there = all((self.folder / name).is_file() for name in record.files)
        return record if there and record.sha256 == _hash(photo) else None

    def changed(self, photo: Path, before: Record | None) -> str:
        """What a user should know who made the photograph's files with other options before."""
        now = self.of(photo)
        if before is None or now is None:
            return ""
        same = before.sha256 == now.sha256 and before.options == now.options
        if same or not before.files:
            return ""
        stay = [name for name in now.earlier if (self.folder / name).is_file()]
        left = f"; left as before: {', '.join(stay)}" if stay else ""
        return f" (made anew, with other options or of another picture than before{left})"

    def claim(self, photo: Path, stem: str, names: Callable[[str], Sequence[str]]) -> str:
        """`free_stem`, kept for this photograph also from another process.

        Raises:
            OutputError: the folder cannot be written.
        """
        while True:
            free = self.free_stem(photo, stem, names)
            owner = self._reserve(photo, free)
            if owner == _absolute(photo):
                return free
            self._own(owner, names(free))

    def _reserve(self, photo: Path, stem: str) -> str:
        """Write a first record unless there is one; returns whose it is."""
        path, mine = self.folder / FOLDER / f"{stem}.json", _absolute(photo)
        if known := _read(path):
            return known.photo
        record = Record(mine, _hash(photo), self.options, [], False)
        draft = write_file(path.with_name(f".facerecon-{uuid4().hex}.tmp"), _text(record))
        try:
            os.link(draft, path)  # fails if another process was faster
        except FileExistsError:
            known = _read(path)
            return known.photo if known else mine
        except OSError:  # a file system without links
            return mine
        finally:
            draft.unlink(missing_ok=True)
        return mine

    def free_stem(self, photo: Path, stem: str, names: Callable[[str], Sequence[str]]) -> str:
        """The stem, or the first numbered one, whose files belong to nothing else.

        Too long a stem is cut. names: the names of a stem's files.
        """
        stem = os.fsencode(stem)[:LONGEST].decode(sys.getfilesystemencoding(), "ignore")
        number, candidate = 2, stem
        while any(self._taken(photo, name) for name in names(candidate)):
            candidate, number = f"{stem}-{number}", number + 1
        self._own(_absolute(photo), names(candidate))
        return candidate

    def write_record(self, photo: Path, stem: str, files: Sequence[str], done: bool) -> None:
        """Say which files belong to the photograph.

        Raises:
            OutputError: the record cannot be written.
        """
        mine = [r for r in self.records.values() if r.photo == _absolute(photo)]
        earlier = sorted({name for r in mine for name in r.all_files} - set(files))
        record = Record(_absolute(photo), _hash(photo), self.options, list(files), done, earlier)
        write_file(self.folder / FOLDER / f"{stem}.json", _text(record))
        self.records[stem] = record

    def _own(self, photo: str, names: Iterable[str]) -> None:
        self._owner |= {_plain(name): photo for name in names}

    def _taken(self, photo: Path, name: str) -> bool:
        path = self.folder / name
        if _plain(_absolute(path)) in self._inputs:
            return True
        owner = self._owner.get(_plain(name))
        return os.path.lexists(path) if owner is None else owner != _absolute(photo)


def _text(record: Record) -> bytes:
    return (json.dumps(asdict(record), indent=1) + "\n").encode()


def _absolute(path: Path) -> str:
    return str(Path(os.path.abspath(path)))


def _plain(name: str) -> str:
    """Names that some file systems take for the same one are the same here."""
    return name.casefold()


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:  # a video may be larger than the memory
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
