"""A folder opens whole, as it was or as it became, whatever happened to its builder; anything else is refused."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from retgen import store
from retgen.errors import ArtefactError, LockedError, RetgenError, UsageError

# A small program that builds generation after generation. Each file says which generation it is of, so that a mixture
# of two would show. It is forked from one process, so that a kill costs milliseconds.
PROGRAM = """
import json, os, random, signal, sys, time
from pathlib import Path
from retgen import store
from retgen.errors import LockedError
from retgen.store import placing

home, mode = Path(sys.argv[1]), sys.argv[2]
target = home / "thing"
if mode == "two-renames":
    placing.exchange = lambda one, other: False

def build(generation):
    with store.create(target, kind="thing", made_by={"generation": generation}, overwrite=True) as staging:
        (staging / "inner").mkdir()
        for name in ("a", "b", "inner/c"):
            (staging / name).write_text(f"{generation} " * (generation % 7 + 1))

def check():
    manifest = store.open_folder(target, kind="thing", verify=True)
    assert sorted(manifest.files) == ["a", "b", "inner/c"], manifest
    return manifest.made_by["generation"]

def whole():
    generation = check()
    for name in ("a", "b", "inner/c"):
        assert set((target / name).read_text().split()) == {str(generation)}
    return generation

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid

def leftovers():
    return sorted(entry.name for entry in home.iterdir() if entry.name != "thing")

build(0)
"""


def run_program(tmp_path: Path, mode: str, body: str) -> dict[str, object]:
    script = PROGRAM + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), mode], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


MODES = pytest.mark.parametrize("mode", ["exchange", "two-renames"])


@MODES
@pytest.mark.slow
def test_killed_at_200_random_moments_the_old_or_the_new_folder_opens_whole(tmp_path: Path, mode: str) -> None:
    counts = run_program(
        tmp_path,
        mode,
        """
        began = time.monotonic()
        for _ in range(5):
            build(0)
        pace = (time.monotonic() - began) / 5
        draw, last, torn_off, advanced = random.Random(7), 0, 0, 0
        for _ in range(200):
            def work():
                for generation in range(last + 1, last + 10_000):
                    build(generation)
            pid = child(work)
            time.sleep(draw.uniform(0.0, 2.5 * pace))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            torn_off += any("building" in name or "previous" in name for name in leftovers())
            found = whole()
            assert found >= last
            advanced += found > last
            last = found
        build(last + 1)
        assert whole() == last + 1 and leftovers() == []
        print(json.dumps({"torn_off": torn_off, "advanced": advanced}))
        """,
    )
    # The kills fell in the middle of builds, and builds did finish in between.
    assert int(str(counts["torn_off"])) > 5
    assert int(str(counts["advanced"])) > 5


@MODES
def test_killed_before_every_single_step_the_old_or_the_new_folder_opens_whole(tmp_path: Path, mode: str) -> None:
    """Each file operation of a rebuild in turn is the one that never happens."""
    counts = run_program(
        tmp_path,
        mode,
        """
        steps, last = 0, 0
        while True:
            def work():
                left = [steps]
                def hook(event, args):
                    if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.scandir", "fcntl.flock"):
                        if left[0] == 0:
                            os.kill(os.getpid(), signal.SIGKILL)
                        left[0] -= 1
                sys.addaudithook(hook)
                build(last + 1)
            status = os.waitpid(child(work), 0)[1]
            found = whole()
            assert found in (last, last + 1)
            last = found
            if not os.WIFSIGNALED(status):
                break
            steps += 1
        assert leftovers() == []
        print(json.dumps({"steps": steps, "last": last}))
        """,
    )
    assert int(str(counts["steps"])) > 15
    assert int(str(counts["last"])) >= 1


@MODES
def test_two_writers_and_a_reader_never_meet_half_a_folder(tmp_path: Path, mode: str) -> None:
    counts = run_program(
        tmp_path,
        mode,
        """
        def work():
            built = 0
            while built < 40:
                try:
                    build(os.getpid() * 1000 + built)
                    built += 1
                except LockedError:
                    pass
        pids, opened = {child(work), child(work)}, 0
        def texts(manifest):
            return [(target / name).read_text() for name in ("a", "b", "inner/c")]

        while pids:
            check()
            assert len(set(store.load(target, kind="thing", read=texts))) == 1
            opened += 1
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                assert status == 0
                pids.discard(pid)
        whole()
        assert leftovers() == []
        print(json.dumps({"opened": opened}))
        """,
    )
    assert int(str(counts["opened"])) > 1


def make(path: Path, content: str = "hello", **options: object) -> Path:
    with store.create(path, kind="note", made_by={"content": content}, overwrite=True) as staging:
        (staging / "inner").mkdir()
        (staging / "inner" / "hello.txt").write_text(content)
        (staging / "empty").write_bytes(b"")
    return path


def test_the_manifest_says_what_and_who(tmp_path: Path) -> None:
    manifest = store.open_folder(make(tmp_path / "deep" / "note"), kind="note", verify=True)
    assert manifest.kind == "note"
    assert manifest.made_by == {"content": "hello"}
    assert {name: entry.size for name, entry in manifest.files.items()} == {"empty": 0, "inner/hello.txt": 5}
    assert manifest.digest == store.verify(tmp_path / "deep" / "note").digest
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["note"]


def test_an_error_in_the_block_leaves_the_old_folder_and_no_trace(tmp_path: Path) -> None:
    note = make(tmp_path / "note")

    def fail() -> None:
        with store.create(note, kind="note", overwrite=True) as staging:
            (staging / "half").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (note / "inner" / "hello.txt").read_text() == "hello"
    assert [entry.name for entry in tmp_path.iterdir()] == ["note"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda note: (note / "inner/hello.txt").write_text("hell"), "bytes"),
        (lambda note: (note / "inner/hello.txt").unlink(), "missing"),
        (lambda note: (note / "manifest.json").unlink(), "no manifest.json"),
        (lambda note: (note / "manifest.json").write_bytes((note / "manifest.json").read_bytes()[:-9]), "torn"),
        (lambda note: (note / "manifest.json").write_text("{}"), "not retgen's"),
        (lambda note: (note / "manifest.json").write_bytes(b"\xff\xfe"), "torn"),
        (lambda note: (note / "manifest.json").write_text("[" * 100_000), "torn"),
    ],
)
def test_a_torn_or_foreign_folder_is_refused(tmp_path: Path, damage: object, words: str) -> None:
    note = make(tmp_path / "note")
    damage(note)  # type: ignore[operator]
    with pytest.raises(ArtefactError, match=words) as caught:
        store.open_folder(note, kind="note")
    assert str(note) in str(caught.value)
    assert caught.value.mend


def test_every_changed_byte_is_found_by_verify(tmp_path: Path) -> None:
    note = make(tmp_path / "note")
    for name in ("inner/hello.txt", "manifest.json"):
        good = (note / name).read_bytes()
        for place in range(len(good)):
            (note / name).write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            with pytest.raises(ArtefactError):
                store.verify(note)
        (note / name).write_bytes(good)
    store.verify(note)


def test_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="holds a note, not a corpus"):
        store.open_folder(make(tmp_path / "note"), kind="corpus")


@pytest.mark.parametrize(("kind", "said"), [("index", "an index"), ("unigen", "a unigen"), ("bm25", "a bm25")])
def test_kinds_have_their_article(tmp_path: Path, kind: str, said: str) -> None:
    with store.create(tmp_path / "folder", kind=kind) as staging:
        (staging / "x").write_text("x")
    with pytest.raises(ArtefactError, match=f"holds {said}, not a note"):
        store.open_folder(tmp_path / "folder", kind="note")
    with (
        pytest.raises(ArtefactError, match=f"{said} stands there already"),
        store.create(tmp_path / "folder", kind=kind),
    ):
        pass


def test_a_newer_format_is_refused_with_the_way_to_update(tmp_path: Path) -> None:
    note = make(tmp_path / "note")
    body = json.loads((note / "manifest.json").read_text())
    body["format_version"] = store.FORMAT_VERSION + 1
    (note / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(ArtefactError, match=r"newer retgen.*pip install -U"):
        store.open_folder(note, kind="note")


def test_a_missing_path_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such folder"):
        store.open_folder(tmp_path / "nowhere", kind="note")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtefactError, match="is a file"):
        store.open_folder(tmp_path / "file", kind="note")


def test_only_a_folder_of_the_same_kind_is_ever_replaced(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "mine.txt").write_text("precious")
    with pytest.raises(ArtefactError, match="did not make"):
        make(documents)
    with (
        pytest.raises(ArtefactError, match="a note stands there"),
        store.create(make(tmp_path / "note"), kind="corpus", overwrite=True),
    ):
        raise AssertionError("never entered")
    with pytest.raises(ArtefactError, match="stands there already"), store.create(tmp_path / "note", kind="note"):
        raise AssertionError("never entered")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtefactError, match="a file stands"):
        make(tmp_path / "file")
    assert (documents / "mine.txt").read_text() == "precious"
    assert (tmp_path / "note" / "inner" / "hello.txt").read_text() == "hello"


def test_an_empty_folder_and_a_link_to_a_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    make(tmp_path / "link", "again")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty" / "inner" / "hello.txt").read_text() == "again"


def test_a_second_builder_is_told_to_wait(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom retgen import store\n"
        "with store.create(sys.argv[1], kind='note') as staging:\n"
        "    (staging / 'x').write_text('theirs')\n    print('ready', flush=True)\n    sys.stdin.read()\n"
    )
    path = tmp_path / "note"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(LockedError, match="another process"):
            make(path)
        other.communicate("")
    assert other.returncode == 0
    assert (path / "x").read_text() == "theirs"
    make(path)


def test_a_builder_inside_the_same_process_is_also_told(tmp_path: Path) -> None:
    with store.create(tmp_path / "note", kind="note") as staging:
        (staging / "x").write_text("outer")
        with pytest.raises(LockedError):
            make(tmp_path / "note")
    assert (tmp_path / "note" / "x").read_text() == "outer"


def test_a_full_disk_in_the_block_is_named_and_costs_nothing(tmp_path: Path) -> None:
    note = make(tmp_path / "note")

    def fill() -> None:
        # The system's own device for this: every write to it finds the disk full.
        with store.create(note, kind="note", overwrite=True), Path("/dev/full").open("w") as out:
            out.write("x")

    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(ArtefactError, match="disk is full"):
        fill()
    store.verify(note)
    assert [entry.name for entry in tmp_path.iterdir()] == ["note"]


def test_a_full_disk_while_sealing_is_named_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = make(tmp_path / "note")
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtefactError, match="disk is full"):
        make(note, "new")
    with pytest.raises(ArtefactError, match="disk is full"):
        store.write_atomic(tmp_path / "one.txt", "x")
    monkeypatch.undo()
    assert calls
    store.verify(note)
    assert (note / "inner" / "hello.txt").read_text() == "hello"
    assert [entry.name for entry in tmp_path.iterdir()] == ["note"]


def test_a_file_over_its_limit_is_named(tmp_path: Path) -> None:
    script = (
        "import resource, sys\nfrom retgen import store\nfrom retgen.errors import ArtefactError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n    with store.create(sys.argv[1], kind='note', overwrite=True) as staging:\n"
        "        (staging / 'big').write_bytes(bytes(20_000))\n"
        "except ArtefactError as error:\n    print(error)\n"
    )
    note = make(tmp_path / "note")
    done = subprocess.run([sys.executable, "-c", script, str(note)], capture_output=True, text=True, check=True)
    assert "over its limit" in done.stdout
    store.verify(note)


def test_another_error_in_the_block_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), store.create(tmp_path / "note", kind="note"):
        Path(tmp_path / "nowhere").read_text()


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="plain files"), store.create(tmp_path / "note", kind="note") as staging:
        (staging / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match=r"manifest\.json"), store.create(tmp_path / "note", kind="note") as staging:
        (staging / "manifest.json").write_text("{}")
    with (
        pytest.raises(UsageError, match="JSON"),
        store.create(tmp_path / "note", kind="note", made_by={"path": tmp_path}),
    ):
        raise AssertionError("never entered")
    assert not (tmp_path / "note").exists()


def test_a_single_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "one.txt"
    store.write_atomic(path, "première")
    store.write_atomic(path, b"second")
    assert path.read_bytes() == b"second"

    def fail() -> None:
        with store.atomic_file(path) as draft:
            draft.write_text("third")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["one.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for attempt in (lambda: make(tmp_path / "file" / "note"), lambda: store.write_atomic(tmp_path / "file" / "a", "x")):
        with pytest.raises(RetgenError, match="cannot be written"):
            attempt()
