"""Digests of files that lie anywhere, models of many gigabytes among them.

They are DVC's, and as DVC does, a file is read again only where its inode, size or time of modification has changed.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from pipeline.common.errors import DataError
from pipeline.common.files import digest_of
from pipeline.common.paths import CHECKPOINTS

KNOWN = CHECKPOINTS / "contents"  # digests of files that were read before


def file_digests(files: Collection[Path]) -> dict[Path, str]:
    """The digest of each file.

    Raises:
        DataError: one cannot be read.
    """
    if not files:
        return {}
    from dvc_data.hashfile.hash import hash_file  # noqa: PLC0415  (slow to import, and most projects name no local file)
    from dvc_data.hashfile.state import State  # noqa: PLC0415
    from dvc_objects.fs.local import localfs  # noqa: PLC0415

    try:
        with closing(State(root_dir=str(Path.cwd()), tmp_dir=str(KNOWN))) as state:
            found = {file: hash_file(str(file.absolute()), localfs, "md5", state=state)[1] for file in files}
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be read ({error.strerror}); check the file and its permissions"
        ) from error
    return {file: str(digest.value) for file, digest in found.items()}


def joint_digest(path: Path, files: Collection[Path], digests: dict[Path, str]) -> str:
    """One digest of some files at or below a path: of their names there, and of what they hold."""
    return digest_of({file.relative_to(path).as_posix(): digests[file] for file in files})
