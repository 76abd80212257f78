"""sdist_check.py SDIST: a source distribution holds every file of the repository that it should.

Uses the standard library and git alone.
"""

import subprocess
import sys
import tarfile
from pathlib import PurePosixPath

# Of the repository alone: what checks it before a change lands, and what git is to overlook.
LEFT_OUT = (".ci", ".gitignore")


def check(sdist: str) -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    wanted = {name for name in tracked if name and PurePosixPath(name).parts[0] not in LEFT_OUT}
    with tarfile.open(sdist) as archive:
        held = {str(PurePosixPath(*PurePosixPath(file.name).parts[1:])) for file in archive if file.isfile()}
    assert not wanted - held, f"{sdist} lacks {sorted(wanted - held)}"
    surplus = held - wanted - {"PKG-INFO", ".gitignore"}
    assert not surplus, f"{sdist} holds what is in no commit: {sorted(surplus)}"
    print(f"{sdist} holds all {len(wanted)} files")


if __name__ == "__main__":
    check(sys.argv[1])
