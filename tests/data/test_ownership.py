"""Folders of results: who owns which file, who writes, and what lies in what."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.ownership import LOCK, MARK, lies_in, own, refuse_nesting, refuse_other
from data.readers.index import index_images
from data.store import ArtifactError


def write(file: Path, text: str = "mine") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def make_old_run(folder: Path, *, network: bool = False) -> None:
    settings = {"network": "segnet"} if network else {}
    record = {"version": 1, "settings": settings, "stages": {}, "store": "/s"}
    write(folder / "run.json", json.dumps(record))
    write(folder / "images-0123456789abcdef.jsonl", '{"coco":[]}\n{"id":"a"}\n')
    write(folder / "labels/SegmentationClass/a.png")


def test_a_command_writes_again_into_its_own_folder_and_removes_only_what_it_listed(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with own(out, "run") as output:
        output.claim(["labels/a.png", "labels/sub/b.png"])
        for name in output.files:
            write(out / name, "ours")
    write(out / "labels/hand.png")
    with own(out, "run") as output:
        assert output.below("labels") == {"labels/a.png", "labels/sub/b.png"}
        output.remove(["labels/sub/b.png", "labels/hand.png"])
    assert sorted(file.name for file in (out / "labels").iterdir()) == ["a.png", "hand.png"]
    with own(out, "run") as output:
        assert output.files == {"labels/a.png"}


@pytest.mark.parametrize("command", ["run", "predict", "train", "demo", "compare", "regenerate"])
@pytest.mark.parametrize("name", ["thesis.txt", "SegmentationClass/a.png", "metrics.json", ".hidden", "run.json"])
def test_a_folder_with_other_files_is_refused_and_nothing_is_written(tmp_path: Path, command: str, name: str) -> None:
    write(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(ArtifactError, match=r"holds something else.*choose another folder, or empty it"),
        own(tmp_path, command),
    ):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_results_of_another_command_are_refused(tmp_path: Path) -> None:
    with own(tmp_path, "predict") as output:
        output.claim(["classes.txt"])
    with pytest.raises(ArtifactError, match="holds the results of pseudomask predict"), own(tmp_path, "train"):
        pass


@pytest.mark.parametrize("link", [False, True])
def test_a_file_that_was_not_listed_is_never_replaced(tmp_path: Path, link: bool) -> None:
    with own(tmp_path, "run") as output:
        output.claim(["run.json"])
    file = tmp_path / "metrics.json"
    file.symlink_to("nowhere") if link else write(file)
    with own(tmp_path, "run") as output, pytest.raises(ArtifactError, match=r"metrics.json: .* move it away"):
        output.claim(["metrics.json", "other"])
    assert "metrics.json" not in json.loads((tmp_path / MARK).read_text())["files"]


@pytest.mark.parametrize("network", [False, True])
def test_runs_and_trainings_without_a_mark_stay_usable(tmp_path: Path, network: bool) -> None:
    make_old_run(tmp_path, network=network)
    hand = write(tmp_path / "labels/SegmentationClass/hand.png")
    with own(tmp_path, "train" if network else "run") as output:
        output.claim(["run.json", "labels/SegmentationClass/a.png"])
        output.remove(["labels/SegmentationClass/a.png", "labels/SegmentationClass/hand.png"])
    assert [file.name for file in hand.parent.iterdir()] == ["hand.png"]
    other = tmp_path / "other"
    make_old_run(other, network=network)
    with pytest.raises(ArtifactError, match="holds the results"), own(other, "run" if network else "train"):
        pass


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"table": "../x", "rows": []}', '{"rows": []}'])
def test_a_comparison_without_a_mark_is_told_by_its_content(tmp_path: Path, content: str) -> None:
    mine = write(tmp_path / "mine/comparison.json", content)
    with pytest.raises(ArtifactError, match="holds something else"), own(mine.parent, "compare"):
        pass
    old = tmp_path / "old"
    write(old / "comparison.json", '{"table": "cooperative", "rows": []}')
    for name in ("cooperative-none.md", "my-notes.md"):
        write(old / name)
    with own(old, "compare") as output:
        assert output.files == {"comparison.json", "cooperative-none.md"}
        with pytest.raises(ArtifactError, match=r"my-notes\.md: .* move it away"):
            output.claim(["my-notes.md"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 9, "command": "run", "files": []}', "UNSAFE"])
def test_a_mark_that_cannot_be_used_is_named(tmp_path: Path, text: str) -> None:
    unsafe = json.dumps({"format": 1, "command": "run", "files": ["../thesis.txt"]})
    write(tmp_path / "out" / MARK, text.replace("UNSAFE", unsafe))
    thesis = write(tmp_path / "thesis.txt")
    with pytest.raises(ArtifactError, match=rf"{MARK}: expected a list of the files"), own(tmp_path / "out", "run"):
        pass
    assert thesis.exists()


def test_one_process_writes_at_a_time_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from data.ownership import own\n"
    code += "with own(Path(sys.argv[1]), 'run'): print('held', flush=True); input()"
    words = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(ArtifactError, match=rf"process {other.pid} on .* writes here"),
            own(tmp_path / "out", "run"),
        ):
            pass
        other.kill()
    with own(tmp_path / "out", "run"), own(tmp_path / "out", "run") as output:
        output.claim(["run.json"])
    assert {file.name for file in (tmp_path / "out").iterdir()} == {LOCK, MARK}


def test_results_store_and_data_do_not_lie_in_one_another(tmp_path: Path) -> None:
    data, out, store = (tmp_path / name for name in ("set", "out", "store"))
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    refuse_nesting(out, store, data)
    refuse_nesting(out, store, None)
    refuse_nesting(data.parent / "demo", store, data.parent / "demo/data")
    inside = (data, data / "deep/out", tmp_path / "link/out", tmp_path / "other/../set/out")
    for place in inside:
        with pytest.raises(ArtifactError, match="--out lies in the data set"):
            refuse_nesting(place, store, data)
        with pytest.raises(ArtifactError, match="--store lies in the data set"):
            refuse_nesting(out, place, data)
    with pytest.raises(ArtifactError, match="the data set lies in --out"):
        refuse_nesting(tmp_path, store, data)
    with pytest.raises(ArtifactError, match="lies in the store"):
        refuse_nesting(store / "out", store, data)


def test_a_folder_lies_in_another_by_whatever_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a")
    monkeypatch.chdir(tmp_path)
    assert lies_in(Path("b/new/deep"), Path("a"))
    assert lies_in(Path("a"), Path("b"))
    assert not lies_in(Path("a"), Path("a/new"))
    assert not lies_in(Path("ab"), Path("a"))


def test_what_pseudomask_made_holds_no_images_of_a_set(tmp_path: Path) -> None:
    write(tmp_path / "photo.png")
    make_old_run(tmp_path / "run")
    with own(tmp_path / "predictions", "predict") as output:
        output.claim(["a.png"])
    write(tmp_path / "predictions/a.png")
    write(tmp_path / "store/.users/x.json")
    write(tmp_path / "store/relations/k/a.png")
    write(tmp_path / "published/v00001/version.json")
    write(tmp_path / "published/v00001/a.png")
    write(tmp_path / "export/export.json", '{"run": "r", "format": "voc", "images": 1}')
    write(tmp_path / "export/a.png")
    for kind in ("SegmentationClass", "SegmentationObject"):
        write(tmp_path / "old" / kind / "a.png")
    for kind in ("SegmentationSure", "Saliency"):
        write(tmp_path / "old" / kind / "photo.png")
    images, problems = index_images(tmp_path)
    assert (sorted(images), problems) == (["photo"], [])


def test_a_file_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "x"
    refuse_other(file, lambda _: False, "a page")
    write(file)
    refuse_other(file, lambda _: True, "a page")
    with pytest.raises(ArtifactError, match="something else than a page"):
        refuse_other(file, lambda _: False, "a page")
    with pytest.raises(ArtifactError, match="something else"):
        refuse_other(tmp_path, lambda _: True, "a page")
    assert os.path.lexists(file)


def test_a_command_that_is_refused_before_it_writes_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), own(tmp_path / "new", "compare"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZeroDivisionError), own(tmp_path / "empty", "compare"):
        raise ZeroDivisionError
    assert (tmp_path / "empty").is_dir()


def test_a_kill_before_the_first_mark_leaves_a_folder_that_is_the_commands_own(tmp_path: Path) -> None:
    write(tmp_path / "out/.pseudomask.lock")
    write(tmp_path / "out/.pseudomask.json.0123abcd", '{"format": 1, "comm')
    with own(tmp_path / "out", "run") as output:
        output.claim(["run.json"])
    assert output.files == {"run.json"}


def test_a_file_that_was_changed_since_it_was_written_is_refused_by_name_until_it_is_moved_away(tmp_path: Path) -> None:
    out = tmp_path / "out"
    texts = {f"labels/{name}.png": name for name in "abc"}
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    with own(out, "run") as output:
        output.claim(texts, digests)
        for name, text in texts.items():
            write(out / name, text)
        output.settle(digests)
    with own(out, "run") as output:
        output.refuse_changed()
    corrected = write(out / "labels/b.png", "B")
    with own(out, "run") as output:
        output.refuse_changed(["labels/a.png", "labels/c.png"])
        output.refuse_changed(wanted={"labels/b.png": hashlib.sha256(b"B").hexdigest()})
        with pytest.raises(
            ArtifactError, match=r"labels/b.png: changed since pseudomask run wrote it.* delete it here"
        ):
            output.refuse_changed()
    corrected.unlink()
    with own(out, "run") as output:
        output.refuse_changed()


def test_a_kill_while_files_are_replaced_leaves_none_that_counts_as_changed(tmp_path: Path) -> None:
    old, new = ({"a.png": hashlib.sha256(text).hexdigest()} for text in (b"old", b"new"))
    with own(tmp_path, "run") as output:
        output.claim(["a.png"], old)
        write(tmp_path / "a.png", "old")
        output.settle(old)
    with own(tmp_path, "run") as output:
        output.claim(["a.png"], new)
    for text in ("old", "new"):
        write(tmp_path / "a.png", text)
        with own(tmp_path, "run") as output:
            output.refuse_changed()
    with own(tmp_path, "run") as output:
        output.settle(new)
    write(tmp_path / "a.png", "old")
    with own(tmp_path, "run") as output, pytest.raises(ArtifactError, match="changed since"):
        output.refuse_changed()


def test_what_was_written_before_there_were_digests_is_replaced_once(tmp_path: Path) -> None:
    write(tmp_path / "a.png", "whatever")
    (tmp_path / MARK).write_text(json.dumps({"format": 1, "command": "run", "files": ["a.png"]}))
    digest = {"a.png": hashlib.sha256(b"new").hexdigest()}
    with own(tmp_path, "run") as output:
        output.refuse_changed()
        output.claim(["a.png"], digest)
        output.refuse_changed()
        write(tmp_path / "a.png", "new")
        output.settle(digest)
    write(tmp_path / "a.png", "corrected")
    with own(tmp_path, "run") as output, pytest.raises(ArtifactError, match="changed since"):
        output.refuse_changed()


@pytest.mark.parametrize("digests", [[], {"a.png": "x"}, {"a.png": [1]}, {"b.png": []}])
def test_digests_of_another_form_are_refused(tmp_path: Path, digests: object) -> None:
    (tmp_path / MARK).write_text(json.dumps({"format": 1, "command": "run", "files": ["a.png"], "digests": digests}))
    with pytest.raises(ArtifactError, match="cannot be used"), own(tmp_path, "run"):
        pass
