"""A copy of the project's files elsewhere, as a clone would be: with what is not committed yet, without what git ignores."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def files_of_the_project() -> list[Path]:
    """The files that git tracks or would track, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    names = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    return [name for name in names if (ROOT / name).exists()]


def copy_to(folder: Path) -> None:
    """Fill a new folder with the files, and make it a repository of its own."""
    for name in files_of_the_project():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
