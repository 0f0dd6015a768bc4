"""Versions of published labels: whole or not there, and one of them the latest."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from data.store import ArtifactError
from data.store.publication import Entry, Publication, link_file, name_of, provenance


def entry(name: str) -> Entry:
    return Entry(name, "ab" * 32, ("cat", "dog"), "key", 0.5, 2, 3)


def publish(publication: Publication, *names: str, hold: bool = False) -> int:
    with publication.lock(), publication.draft() as draft:
        (draft / "SegmentationClass").mkdir()
        (draft / "SegmentationClass/a.png").write_text(" ".join(names))
        return publication.publish(draft, {"reasons": ["a test"]}, map(entry, names), hold=hold)


def test_versions_count_up_and_the_latest_is_what_readers_follow(tmp_path: Path) -> None:
    publication = Publication(tmp_path / "labels")
    assert (publication.latest, publication.published, publication.next) == (None, [], 1)
    assert [publish(publication, "b", "a"), publish(publication, "c")] == [1, 2]
    assert (publication.latest, publication.published, publication.next) == (2, [1, 2], 3)
    assert (tmp_path / "labels/latest/SegmentationClass/a.png").read_text() == "c"
    assert publication.record(1) == {"number": 1, "images": 2, "reasons": ["a test"]}
    assert list(publication.entries(1)) == [entry("a"), entry("b")]
    # What is published is not written to by accident: versions share files.
    assert (tmp_path / "labels/latest/SegmentationClass/a.png").stat().st_mode & 0o222 == 0


def test_a_held_version_is_not_the_latest_until_it_is_led_to(tmp_path: Path) -> None:
    publication = Publication(tmp_path)
    publish(publication, "a")
    assert publish(publication, "b", hold=True) == 2
    assert (publication.latest, publication.published, publication.held, publication.next) == (1, [1], [2], 3)
    assert publication.folder(2) == tmp_path / "held" / name_of(2)
    publication.lead_to(2)
    assert (publication.latest, publication.published, publication.held) == (2, [1, 2], [])
    publication.lead_to(1)
    assert (publication.latest, publication.next) == (1, 3)


@pytest.mark.parametrize("parent", ["", "held"])
def test_a_folder_of_the_next_versions_name_is_neither_replaced_nor_in_the_way(tmp_path: Path, parent: str) -> None:
    publication = Publication(tmp_path)
    (tmp_path / parent / name_of(1)).mkdir(parents=True)
    assert publish(publication, "a") == publication.latest == 2
    assert not any((tmp_path / parent / name_of(1)).iterdir())


def test_a_held_version_whose_values_readers_know_by_other_names_is_not_published(tmp_path: Path) -> None:
    publication = Publication(tmp_path)
    for names, hold in (("cat\ndog\n", False), ("cat\ndog\nbird\n", True), ("cat\ndog\nant\n", False)):
        with publication.lock(), publication.draft() as draft:
            (draft / "classes.txt").write_text(names)
            publication.publish(draft, {}, [entry("a")], hold=hold)
    with pytest.raises(ArtifactError, match="'bird', and 'ant' in the published version 3: values would change"):
        publication.lead_to(2)
    assert (publication.latest, publication.published, publication.held) == (3, [1, 3], [2])
    publication.lead_to(1)
    with pytest.raises(ArtifactError, match="values would change"):
        publication.lead_to(2)


@pytest.mark.parametrize("kind", ["copy", "file", "other link"])
def test_a_latest_that_is_no_link_to_a_version_is_not_taken_for_the_first_run(tmp_path: Path, kind: str) -> None:
    publication = Publication(tmp_path)
    publish(publication, "a")
    latest = tmp_path / "latest"
    latest.unlink()
    if kind == "copy":  # As `cp -rL` and many a backup make it.
        shutil.copytree(tmp_path / "v00001", latest)
    elif kind == "file":
        latest.write_text("v00001")
    else:
        latest.symlink_to("newest")
    with publication.lock(), pytest.raises(ArtifactError, match=r"latest: (expected a link|leads to newest)"):
        _ = publication.latest
    if kind != "other link":
        with pytest.raises(ArtifactError, match="expected a link to a version"):
            publication.lead_to(1)
        assert not any(file.is_symlink() for file in tmp_path.iterdir())


def test_what_is_not_there_or_damaged_is_named(tmp_path: Path) -> None:
    publication = Publication(tmp_path)
    publish(publication, "a")
    with pytest.raises(ArtifactError, match="has no version 7; there are: 1"):
        publication.folder(7)
    folder = publication.folder(1)
    (folder / "images.jsonl").chmod(0o644)
    (folder / "images.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(ArtifactError, match=r"images.jsonl: unreadable"):
        list(publication.entries(1))
    (folder / "version.json").chmod(0o644)
    (folder / "version.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"version.json: unreadable"):
        publication.record(1)
    (folder / "version.json").unlink()
    with pytest.raises(ArtifactError, match="leads to v00001, which is no version"):
        _ = publication.latest


def _die_while_drafting(root: Path) -> None:
    publication = Publication(root)
    with publication.lock(), publication.draft() as draft:
        (draft / "half.png").write_text("half a version")
        (root / "ready").write_text("")
        time.sleep(60)


def test_a_killed_writer_leaves_no_version_and_no_lock(tmp_path: Path) -> None:
    publication = Publication(tmp_path)
    publish(publication, "a")
    process = multiprocessing.get_context("spawn").Process(target=_die_while_drafting, args=(tmp_path,))
    process.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (publication.latest, publication.published) == (1, [1])
    assert list(tmp_path.glob(".draft-*"))
    (tmp_path / ".latest-0123").symlink_to(name_of(9))
    # The next writer is not kept waiting, and clears up.
    assert publish(publication, "b") == 2
    assert not list(tmp_path.glob(".draft-*"))
    assert not (tmp_path / ".latest-0123").is_symlink()


def test_a_version_that_failed_leaves_nothing(tmp_path: Path) -> None:
    publication = Publication(tmp_path)

    def fail() -> None:
        with publication.lock(), publication.draft() as draft:
            (draft / "a.png").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert publication.published == []
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"), Publication(tmp_path / "file/labels").lock():
        pass


def test_a_linked_file_is_the_same_or_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("labels")
    link_file(tmp_path / "a", tmp_path / "deep/b")
    assert (tmp_path / "deep/b").stat().st_ino == (tmp_path / "a").stat().st_ino

    def refuse(*_: object) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    link_file(tmp_path / "a", tmp_path / "deep/c")
    assert (tmp_path / "deep/c").read_text() == "labels"
    assert (tmp_path / "deep/c").stat().st_ino != (tmp_path / "a").stat().st_ino


def test_the_list_of_images_is_json_lines(tmp_path: Path) -> None:
    publication = Publication(tmp_path)
    publish(publication, "b", "a")
    lines = (publication.folder(1) / "images.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]


def test_what_labels_came_from_is_read_once_though_many_share_it() -> None:
    reads = []

    def read(stage: str, key: str) -> dict:
        reads.append((stage, key))
        inputs = {"labels": {"irnet": ["net"]}, "irnet": {"relations": ["r1", "r2"], "classifier": ["c"]}}
        return {"stage": stage, "key": key, "recipe": {"inputs": inputs.get(stage, {})}}

    found = [(manifest["stage"], manifest["key"]) for manifest in provenance(["a", "b"], read)]
    assert found == reads == [("labels", "a"), ("irnet", "net"), ("classifier", "c"), ("labels", "b")]


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_version_that_a_kill_kept_from_readers_is_made_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    publication = Publication(tmp_path)
    for _ in range(before):
        publish(publication, "a")
    with monkeypatch.context() as patch:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(Path, "symlink_to", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(publication, "b")
    assert publication.latest == (before or None)
    assert publication.unfinished == before + 1
    with publication.lock():
        assert publication.latest == before + 1
    assert publication.unfinished is None


def test_versions_without_a_latest_get_it_back_and_a_choice_stays(tmp_path: Path) -> None:
    publication = Publication(tmp_path)
    publish(publication, "a")
    publish(publication, "b")
    with publication.lock():
        publication.lead_to(1)
    with publication.lock():
        assert publication.latest == 1
    (tmp_path / "latest").unlink()
    with publication.lock():
        assert publication.latest == 2


def writable(file: Path) -> Path:
    """Let a file of a version be changed."""
    file.chmod(0o644)
    return file


@pytest.mark.parametrize("id", ["../a", "/a", "a/../../b", "C:a", "", 5])
def test_an_id_that_leaves_the_folder_is_refused(tmp_path: Path, id: object) -> None:
    publication = Publication(tmp_path)
    publish(publication, "a")
    file = writable(tmp_path / "v00001/images.jsonl")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"id": id}) + "\n")
    with pytest.raises(ArtifactError, match=r"images.jsonl: unreadable \(expected an image's id"):
        list(publication.entries(1))


BAD_RECORDS = [
    "[]",
    "5",
    '{"number": 2}',
    '{"number": {}}',
    '{"reasons": [null]}',
    '{"created": null}',
    '{"means": []}',
]


@pytest.mark.parametrize("text", [*BAD_RECORDS, '{"settings": "x"}', "[" * 100_000])
def test_a_record_of_another_form_is_unreadable(tmp_path: Path, text: str) -> None:
    publication = Publication(tmp_path)
    publish(publication, "a")
    writable(tmp_path / "v00001/version.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"version.json: unreadable"):
        publication.record(1)


def test_a_field_that_a_reader_needs_is_asked_for(tmp_path: Path) -> None:
    publication = Publication(tmp_path)
    publish(publication, "a")
    for name in ("settings", "means", "networks"):
        with pytest.raises(ArtifactError, match=rf"version.json: unreadable \(expected {name}, found none"):
            publication.record(1, name)


@pytest.mark.parametrize("values", [{"labels": [None]}, {"labels": "cat"}, {"background": "x"}, {"classes": None}])
def test_an_entry_of_another_form_is_unreadable(tmp_path: Path, values: dict[str, object]) -> None:
    publication = Publication(tmp_path)
    publish(publication, "a")
    file = writable(tmp_path / "v00001/images.jsonl")
    file.write_text(json.dumps(json.loads(file.read_text()) | values) + "\n")
    with pytest.raises(ArtifactError, match=r"images.jsonl: unreadable \(expected another"):
        list(publication.entries(1))


@pytest.mark.parametrize(
    "change",
    [{}, {"recipe": None}, {"recipe": {}}, {"finished": None}, {"key": 5}, {"recipe": {"inputs": {"cams": []}}}],
)
def test_a_manifest_of_another_form_is_unreadable(tmp_path: Path, change: dict[str, object]) -> None:
    publication = Publication(tmp_path)
    publish(publication, "a")
    recipe = {"settings": {}, "source": "s", "inputs": {"cams": ["k"]}, "samples": {}}
    sound = {"stage": "labels", "key": "k", "recipe": recipe, "device": "cpu", "versions": {}, "finished": "now"}
    file = tmp_path / "v00001/provenance/labels-k.json"
    file.parent.mkdir()
    file.write_text(json.dumps(sound))
    assert publication.manifest(1, "labels", "k") == sound
    file.write_text(json.dumps(sound | change if change else []))
    with pytest.raises(ArtifactError, match=r"labels-k.json: unreadable \(expected"):
        publication.manifest(1, "labels", "k")


@pytest.mark.parametrize("name", ["/etc", "../runs/v00001", "runs/../../x", "runs", "runs/v1/../..", 5])
def test_the_run_of_a_version_is_one_of_the_publications(tmp_path: Path, name: object) -> None:
    publication = Publication(tmp_path)
    publish(publication, "a")
    writable(tmp_path / "v00001/version.json").write_text(json.dumps({"number": 1, "networks": name}))
    with pytest.raises(ArtifactError, match=r"version.json: unreadable \(expected the folder of a run"):
        publication.record(1)
