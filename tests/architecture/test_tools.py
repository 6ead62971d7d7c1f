"""The tools under tools/ do what they say; none of these tests installs or downloads anything."""

import json
import re
import subprocess
import sys

import pytest

from tests.architecture.repo import ROOT
from tools import bootstrap, docs_commands, mutants

# ---------------------------------------------------------------------------------------------------- docs_commands

PAGE = """\
# Page

<!-- run: quick -->
```console
$ echo one \\
    two
one two
$ echo three
three
```

```bash
ls
```

<!-- run: none -->
```sh
rm -r everything
```

```python
print("not a shell")
```
"""


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    return path


def test_blocks_are_found_with_their_class(page):
    found = docs_commands.blocks(page)
    assert [(b.language, b.run, b.line) for b in found] == [
        ("console", "quick", 4),
        ("bash", "", 12),
        ("sh", "none", 17),
    ]


def test_only_what_is_typed_is_run(page):
    assert docs_commands.blocks(page)[0].script == "echo one \\\n    two\necho three"


def test_an_unclassified_block_is_named(page):
    (problem,) = docs_commands.unclassified(docs_commands.blocks(page))
    assert "page.md:12" in problem


def test_a_misspelt_class_is_no_class(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("<!-- run: quik -->\n```bash\nls\n```\n", encoding="utf-8")
    assert len(docs_commands.unclassified(docs_commands.blocks(path))) == 1


def test_blocks_of_a_file_share_a_folder_and_a_failure_is_told(tmp_path):
    path = tmp_path / "page.md"
    block = "<!-- run: quick -->\n```bash\n{}\n```\n"
    path.write_text(block.format("echo kept > note") + block.format("cat note; false; echo unseen"), encoding="utf-8")
    (failure,) = docs_commands.run_file(path, ("quick",))
    assert "page.md:6: exit status 1" in failure
    assert "kept\n" in failure
    assert not failure.endswith("unseen\n")
    assert not (ROOT / "note").exists()


# ---------------------------------------------------------------------------------------------------- bootstrap


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A Linux machine without GPU: what bootstrap would run is listed, and torch is there once a command works."""
    ran, works = [], []

    def run(*command):
        ran.append(" ".join(command).partition("pip --disable-pip-version-check --no-input ")[2] or command)
        return command[-1] in works

    monkeypatch.setattr(bootstrap.sys, "platform", "linux")
    monkeypatch.delenv("TORCH_CUDA", raising=False)
    monkeypatch.setattr(bootstrap, "run", run)
    monkeypatch.setattr(bootstrap, "succeeds", lambda *command: False)
    monkeypatch.setattr(bootstrap, "installed_torch", lambda: "2.13.0+cpu" if len(ran) and works else None)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    return ran, works


def test_constraints_bring_no_cuda_and_one_exact_torch():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith(("nvidia", "cuda", "triton"))] == []
    assert bootstrap.pinned_torch("\n".join(lines)).startswith("torch==2.")
    assert bootstrap.pinned_torch("torchmetrics==1.0\ntorch==2.13.0 ; x\n") == "torch==2.13.0"


def test_torch_is_the_cpu_build_by_name_and_pytorchs_own_index_comes_second(machine):
    ran, works = machine
    works.append(bootstrap.CPU_INDEX)
    held = bootstrap.install_torch()
    light = f"install --no-deps {bootstrap.pinned_torch(bootstrap.CONSTRAINTS.read_text(encoding='utf-8'))}+cpu"
    assert ran == [light, f"{light} --index-url {bootstrap.CPU_INDEX}"]
    assert held == "torch==2.13.0+cpu"


def test_without_a_cpu_build_nothing_is_installed_and_the_way_on_is_shown(machine):
    ran, _ = machine
    with pytest.raises(SystemExit, match="TORCH_CUDA=1"):
        bootstrap.install_torch()
    assert all("+cpu" in call for call in ran)


def test_a_gpu_that_answers_gets_the_ordinary_build(machine, monkeypatch):
    ran, works = machine
    works.append("torch==2.13.0")
    monkeypatch.setattr(bootstrap, "succeeds", lambda *command: command[0] == "nvidia-smi")
    bootstrap.install_torch()
    assert ran == ["install torch==2.13.0"]


def test_pip_installs_where_uv_can_not(machine, monkeypatch):
    ran, works = machine
    works.append("uv")  # `pip install uv` works, but what uv then does fails
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit):
        bootstrap.install_plaudit({"dev"}, "torch==2.13.0+cpu")
    assert [call if isinstance(call, str) else call[1:3] for call in ran] == [
        "install uv",
        ("pip", "install"),
        f"install --editable .[dev] --constraint {bootstrap.CONSTRAINTS} "
        f"--constraint {bootstrap.VENV / 'torch-constraint.txt'}",
    ]


def test_a_python_without_ensurepip_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / "venv")
    monkeypatch.setattr(bootstrap, "PYTHON", tmp_path / "venv" / "bin" / "python")
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(SystemExit, match=r"python3\.\d+-venv"):
        bootstrap.make_venv()
    assert not (tmp_path / "venv").exists()


def test_the_stamp_is_void_after_a_change_of_the_project(monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(bootstrap, "PYTHON", tmp_path)
    assert bootstrap.installed_extras() is None
    bootstrap.STAMP.write_text(json.dumps({"key": bootstrap.stamp_key(), "extras": ["dev"]}), encoding="utf-8")
    assert bootstrap.installed_extras() == {"dev"}
    other = tmp_path / "constraints.txt"
    other.write_text("torch==9\n", encoding="utf-8")
    monkeypatch.setattr(bootstrap, "CONSTRAINTS", other)
    assert bootstrap.installed_extras() is None


def test_bootstrap_needs_the_standard_library_only():
    code = (
        "import sys; sys.path.insert(0, 'tools'); import bootstrap\n"
        "own = {'bootstrap', '__main__'} | set(sys.stdlib_module_names)\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} - own))"
    )
    answer = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert answer.stdout == "[]\n", answer.stderr


# ---------------------------------------------------------------------------------------------------- mutants


def test_each_mutation_fits_the_code():
    """After a change of the code its `@kills` must follow, or `make mutants` would test nothing."""
    found = mutants.mutations()
    assert len(found) >= 300
    sources = {m.path: (ROOT / m.path).read_text(encoding="utf-8") for m in found}
    assert [m for m in found if not m.fits(sources[m.path])] == []
    twice = [(m.path, m.old, m.new) for m in found]
    assert sorted({m for m in twice if twice.count(m) > 1}) == []


def test_every_kills_in_the_tests_is_read():
    """One inside a class or a nested function would look like the others and be made by nobody."""
    tests = (ROOT / "tests").rglob("*.py")
    written = sum(len(re.findall(r"^\s*@kills\(", path.read_text(encoding="utf-8"), re.MULTILINE)) for path in tests)
    assert len(mutants.mutations()) == written


def test_a_mutation_is_read_with_the_test_that_carries_it(tmp_path):
    path = tmp_path / "test_a.py"
    path.write_text(
        "import pytest\n\n"
        '@kills("a.py", old="1\\n2", new="2", why="first")\n@pytest.mark.slow\n'
        '@kills("b.py", old="-", new="+", why="second")\ndef test_b(): ...\n',
        encoding="utf-8",
    )
    assert list(mutants.mutations_of(path)) == [
        mutants.Mutation("a.py", "1\n2", "2", "first", f"{path}::test_b"),
        mutants.Mutation("b.py", "-", "+", "second", f"{path}::test_b"),
    ]


@pytest.mark.parametrize(
    ("status", "output", "verdict"),
    [
        (1, "F\nFAILED tests/a/test_b.py::test_c - assert 1 == 2\n", "killed"),
        (0, "1 passed", "SURVIVED"),
        (1, "ERROR tests/a/test_b.py::test_c - fixture\n", "ERROR"),
        (2, "ERROR tests/a/test_b.py\n", "ERROR"),
        (4, "file or directory not found", "ERROR"),
        (5, "no tests ran", "ERROR"),
        (mutants.LATE, "", "ERROR"),
    ],
)
def test_only_a_failing_test_kills_a_mutant(status, output, verdict):
    assert mutants.read(status, output)[0] == verdict
