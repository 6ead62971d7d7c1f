"""The tools under tools/ do what they say; none of these tests installs or downloads anything."""

import json
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


def test_the_pin_of_torch_is_one_exact_version():
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert bootstrap.pinned("torch", constraints).startswith("torch==2.")
    assert bootstrap.pinned("torch", "torchmetrics==1.0\ntorch==2.13.0 ; x\n") == "torch==2.13.0"
    with pytest.raises(bootstrap.SetupError):
        bootstrap.pinned("torch", "torchmetrics==1.0\n")


def test_constraints_bring_no_cuda():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith(("nvidia", "cuda", "triton"))] == []


def test_cuda_needs_are_those_that_hold_here():
    here, elsewhere = f"sys_platform == '{sys.platform}'", "platform_machine == 'vax'"
    needs = [
        "filelock",
        f"nvidia-cudnn-cu13==9.20 ; {here}",
        f"triton==3.7 ; {elsewhere}",
        "nvidia-cutlass ; extra == 'cutlass'",
        "cuda-toolkit[cublas]==13.0",
    ]
    assert bootstrap.cuda_needs(sys.executable, needs) == ["cuda-toolkit", "nvidia-cudnn-cu13"]


def test_without_a_cpu_build_nothing_is_installed_and_the_way_on_is_told(monkeypatch):
    ran = []
    monkeypatch.setattr(bootstrap, "somebody_answers", lambda url: False)
    monkeypatch.setattr(bootstrap, "ask_ordinary_index", lambda *_: {"version": "2.13.0", "requires_dist": ["triton"]})
    monkeypatch.setattr(bootstrap, "pip", lambda *call: ran.append(call) or 0)
    with pytest.raises(bootstrap.SetupError, match="TORCH_CUDA=1") as told:
        bootstrap.get_cpu_torch(sys.executable, "torch==2.13.0")
    assert "triton" in str(told.value)
    assert ran == []


def test_a_light_build_of_the_ordinary_index_is_taken_by_its_exact_version(monkeypatch):
    ran = []
    monkeypatch.setattr(bootstrap, "somebody_answers", lambda url: False)
    offer = {"version": "2.13.0+cpu", "requires_dist": ["filelock"]}
    monkeypatch.setattr(bootstrap, "ask_ordinary_index", lambda *_: offer)
    monkeypatch.setattr(bootstrap, "pip", lambda python, arguments, what: ran.append(arguments) or 0)
    bootstrap.get_cpu_torch(sys.executable, "torch==2.13.0")
    assert ran == [["install", "--no-deps", "torch==2.13.0+cpu"]]


def test_a_python_without_ensurepip_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / "venv")
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(bootstrap.SetupError, match=r"python3\.\d+-venv"):
        bootstrap.ensure_venv()
    assert not (tmp_path / "venv").exists()


def test_the_stamp_is_void_after_a_change_of_the_project(monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(bootstrap, "venv_python", lambda: tmp_path)
    assert bootstrap.read_stamp() is None
    bootstrap.STAMP.write_text(json.dumps({"key": bootstrap.stamp_key(), "extras": ["dev"]}), encoding="utf-8")
    assert bootstrap.read_stamp() == {"dev"}
    other = tmp_path / "constraints.txt"
    other.write_text("torch==9\n", encoding="utf-8")
    monkeypatch.setattr(bootstrap, "CONSTRAINTS", other)
    assert bootstrap.read_stamp() is None


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
    written = sum(
        path.read_text(encoding="utf-8").count("\n@kills(") + path.read_text(encoding="utf-8").count("\nkills(")
        for path in (ROOT / "tests").rglob("*.py")
    )
    assert len(mutants.mutations()) == written


def test_a_mutation_is_read_with_the_test_that_carries_it(tmp_path):
    path = tmp_path / "test_a.py"
    path.write_text(
        'import pytest\n\nkills("c.py", old="x", new="y", why="of the file")\n\n'
        '@kills("a.py", old="1\\n2", new="2", why="first")\n@pytest.mark.slow\n'
        '@kills("b.py", old="-", new="+", why="second")\ndef test_b(): ...\n',
        encoding="utf-8",
    )
    assert list(mutants.mutations_of(path)) == [
        mutants.Mutation("c.py", "x", "y", "of the file", str(path)),
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
