"""The engines that are measured: this checkout's and, in a comparison, another commit's in a checkout of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.machine import Unavailable

ROOT = Path(__file__).resolve().parent.parent
_SHORT_DIGITS = 10
#: A wheel that has to be built takes longer than any that is fetched.
_SETUP_SECONDS = 900


@dataclass(frozen=True)
class Build:
    """A checkout's interpreter, with the engine installed beside it."""

    python: Path
    #: The other commit; empty for this checkout, as it lies here.
    commit: str = ""

    def label(self, candidate: str) -> str:
        """What the samples of a candidate are called that is this build: `pullthrough` or `pullthrough@<commit>`."""
        return f"{candidate}@{self.commit}" if self.commit else candidate

    def program(self) -> list[str]:
        """The command. Raises Unavailable where it is not installed."""
        program = self.python.with_name("pullthrough")
        if not program.exists():
            raise Unavailable(f"{program} is not there; run `make setup`")
        return [str(program)]


#: The checkout whose interpreter runs the measurement.
HERE = Build(Path(sys.executable))


def resolve_commit(name: str) -> str:
    """The whole id of a commit. Raises Unavailable where there is none of that name."""
    run = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if run.returncode != 0:
        raise Unavailable(f"{name} names no commit of this repository")
    return run.stdout.strip()


@contextlib.contextmanager
def compared(commit: str, work: Path) -> Iterator[tuple[Build, Build]]:
    """This checkout, and the commit in a worktree below `work`, each in an environment that has what it needs to run and
    nothing else; gone at the end of the block. Raises Unavailable."""
    short = commit[:_SHORT_DIGITS]
    folder = work / "against"
    _remove(folder)  # left behind by a run that was killed
    folder.mkdir(parents=True)
    try:
        # Forced: git may still know the folder of a run that was killed.
        added = _git("worktree", "add", "--quiet", "--force", "--detach", str(folder / short), commit)
        if added.returncode != 0:
            raise Unavailable(f"{short} cannot be checked out: {added.stderr.strip()[-300:]}")
        yield Build(_install(ROOT, folder / "venv")), Build(_install(folder / short, folder / f"venv-{short}"), short)
    finally:
        _remove(folder)


def _install(root: Path, venv: Path) -> Path:
    """The interpreter of a new environment with the checkout in it, as `make setup` makes them; and all of it compiled,
    whatever the environment says of that: a start would be slower by it."""
    print(f"setting up {root} in {venv} ...", flush=True)
    python = venv / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps"]
    for command in (
        [sys.executable, "-m", "venv", venv],
        [*pip, "--require-hashes", "-r", root / "requirements" / "run.txt"],
        [*pip, "--no-build-isolation", "--no-index", "-e", root],
        [python, "-m", "compileall", "-q", root / "src"],
    ):
        made = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False, timeout=_SETUP_SECONDS
        )
        if made.returncode != 0:
            raise Unavailable(f"{root} cannot be set up: {(made.stdout + made.stderr).strip()[-600:]}")
    return python


def _remove(folder: Path) -> None:
    for worktree in folder.glob("*/.git"):
        _git("worktree", "remove", "--force", str(worktree.parent))
    shutil.rmtree(folder, ignore_errors=True)


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
