"""Cases that two builds of wgpt run, and the runs themselves."""
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
# A cold driver cache: llvmpipe compiles the kernels of `doctor` for minutes.
TIME_LIMIT_S = 900
# No cache and no tuned choices, so the variants are the defaults of the device.
FIXED = {"WGPT_CACHE_DIR": "", "WGPT_TUNE_SECONDS": "0"}
# Variables that would change the runs if the user had set them.
DROPPED_ENVIRONMENT = ("WGPT_CHAT_HISTORY",)
# Paths under which no Vulkan driver is found (as in crates/wgpt-cli/tests).
NO_DRIVER = {name: "/nonexistent" for name in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES")}


@dataclass
class Step:
    """One run of the program. `@NAME` in an argument or in stdin is the file NAME of the case's folder."""

    args: list[str]
    stdin: str = ""
    env: dict[str, str] = field(default_factory=dict)
    # How stdout is read: "text", "json", "csv" or "timed" (text in which the decimals are measurements).
    out: str = "text"
    # Exit codes that OLD may have. With any other one, the case does not test its subject.
    codes: tuple[int, ...] = (0,)
    # Files that the run writes, with their kinds: "safetensors", "session", "json", "csv" or "text".
    files: dict[str, str] = field(default_factory=dict)
    # Differences of the output are reported, but the case does not fail.
    report: bool = False
    # OLD runs this step in both rounds: NEW continues with a file that OLD wrote.
    old_in_both: bool = False

    @property
    def verb(self) -> str:
        words = self.args[:2] if self.args[:1] == ["bench"] else self.args[:1]
        return " ".join(words)


@dataclass
class Case:
    """Steps that run one after the other in one folder."""

    group: str
    name: str
    steps: list[Step]
    quick: bool = False
    # Files of the folder before the first step: bytes, or a file to link to.
    inputs: dict[str, bytes | Path] = field(default_factory=dict)


@dataclass
class Outcome:
    """The result of a step; `code` is None if it exceeded the time limit."""

    code: int | None
    stdout: str
    stderr: str
    files: dict[str, bytes | None]


def decode(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def run_step(program: Path, step: Step, folder: Path) -> Outcome:
    """Runs a step in the repository's root, so that paths in its output are the same everywhere."""
    place = f"{folder}/"
    env = {name: value for name, value in os.environ.items() if name not in DROPPED_ENVIRONMENT}
    env |= FIXED | {name: value.replace("@", place) for name, value in step.env.items()}
    args = [arg.replace("@", place) for arg in step.args]
    try:
        done = subprocess.run(
            [program, *args],
            input=step.stdin.replace("@", place).encode("utf-8", "surrogateescape"),
            capture_output=True, cwd=REPOSITORY, env=env, timeout=TIME_LIMIT_S, check=False,
        )
        code, stdout, stderr = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        code, stdout, stderr = None, late.stdout or b"", late.stderr or b""
    paths = {name: folder / name for name in step.files}
    files = {name: path.read_bytes() if path.is_file() else None for name, path in paths.items()}
    return Outcome(code, decode(stdout), decode(stderr), files)


def run_case(old: Path, program: Path, case: Case, folder: Path) -> list[Outcome]:
    """Runs all steps of a case in a fresh `folder`, which is removed afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in case.inputs.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    try:
        return [run_step(old if step.old_in_both else program, step, folder) for step in case.steps]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
