"""What `pip install` brings: every file that is no code too, and a `plaudit` that needs no checkout."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.architecture.repo import PACKAGE, ROOT
from tests.kills import kills

NEW = """
from importlib import resources
from plaudit.report import html
from plaudit.web import templates
for environment in (html.environment(), templates.environment()):
    names = environment.list_templates()
    assert names
    for name in names:
        if name.endswith(".j2"):
            environment.get_template(name)
assert templates.words("zh") != templates.words("en")
print("all templates")
"""


def run(python: Path, *arguments: str, cwd: Path) -> str:
    """What a command of the new environment prints: nothing of this checkout is on its path."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run([str(python), *arguments], cwd=cwd, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    code = "import sys; from flit_core import buildapi; print(buildapi.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=ROOT, check=True, capture_output=True)
    (built,) = out.glob("plaudit-*.whl")
    return built


@pytest.mark.slow
def test_it_holds_every_file_of_the_package(wheel):
    files = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    wanted = {name for name in files if not name.endswith(".pyc") and "__pycache__" not in name}
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())
    assert {Path(name).suffix for name in wanted} >= {".py", ".yaml", ".j2", ".js", ".css", ".json", ".jinja", ".md"}


@pytest.mark.slow
def test_it_works_in_a_bare_environment(wheel, tmp_path):
    """Installed by pip into a new environment, whose dependencies are those of the one that runs the tests: help, a
    starter file, a run's report, its card, the pages."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel), cwd=tmp_path)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    where = run(python, "-c", "import plaudit; print(plaudit.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)

    plaudit = tmp_path / "env" / "bin" / "plaudit"
    assert "eval" in run(python, str(plaudit), "--help", cwd=tmp_path)
    run(python, str(plaudit), "init", "sft", cwd=tmp_path)
    rows = "".join(json.dumps({"prompt": f"say {i}", "completion": "yes"}) + "\n" for i in range(40))
    (tmp_path / "demonstrations.jsonl").write_text(rows, encoding="utf-8")
    small = ["--model.tiny.hidden_size", "8", "--model.tiny.layers", "1", "--model.tiny.heads", "2"]
    run(python, str(plaudit), "sft", "sft.yaml", "--out", "runs/s", *small, cwd=tmp_path)
    assert "library_name: transformers" in (tmp_path / "runs/s/model/README.md").read_text(encoding="utf-8")
    run(python, str(plaudit), "report", "runs/s", cwd=tmp_path)
    assert "<html" in (tmp_path / "runs/s/report.html").read_text(encoding="utf-8")
    assert run(python, "-c", NEW, cwd=tmp_path) == "all templates\n"
    assert "stages" in run(python, "-c", "import plaudit, pathlib; print((pathlib.Path(plaudit.__file__).parent / "
                           "'demo.yaml').read_text(encoding='utf-8'))", cwd=tmp_path)  # fmt: skip


@kills(
    "Dockerfile",
    old="ARG TORCH=2.13.0",
    new="ARG TORCH=2.12.0",
    why="the image has another torch than the one that everything was tested with",
)
def test_the_image_is_made_of_what_was_tested():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"ARG TORCH=(\S+)", text)[1] == re.search(
        r"^torch==([\d.]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )[1]  # fmt: skip
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY") and "--from" not in line]
    sent = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[0] == "!"
    }
    for name in (name for names in copied for name in names):
        assert (ROOT / name).exists()
        assert name in sent
