"""The commands that look at what there is, and clear it up: runs, labels, networks, data sets, stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from data.exchange import FORMATS
from data.store import ArtifactError
from flows.arguments.answers import CommandFailed, answer, list_or_file

if TYPE_CHECKING:
    ExportFormat = str
else:
    ExportFormat = Literal[("both", *FORMATS, "onnx", "torchscript")]


def status(run: Positional[str], json: bool = False) -> None:
    """Each stage of a run: cached, stale and why, damaged, missing. Of a store, all runs made from it.

    Args:
        run: Folder of the run, or of a store; or the address of a store.
        json: Print one JSON object on standard output.
    """
    from flows.commands.status import runs_of, show_runs, show_status, status_of

    folder = Path(run)
    if "://" in run or ((folder / ".users").is_dir() and not (folder / "run.json").exists()):
        answer(runs_of(run), show_runs, json)
    else:
        answer(status_of(folder), show_status, json)


def doctor(
    data: Path | None = None,
    labels: Path | None = None,
    split: str | None = None,
    classes: Path | None = None,
    regions: Path | None = None,
    json: bool = False,
) -> None:
    """What this machine has, and everything that is wrong with a data set.

    Args:
        data: Folder of a data set.
        labels: Its image-level labels.
        split: A list of its images.
        classes: File with the name of a class a line.
        regions: Folder of a segmenter's regions of its images.
        json: Print one JSON object on standard output.
    """
    from flows.commands.doctor import examine_dataset, examine_machine, show_diagnosis

    result: dict[str, Any] = {"machine": examine_machine(Path.cwd()), "problems": []}
    if data:
        result["dataset"], problems = examine_dataset(data, labels, split, classes, regions)
        result["problems"] = [{"file": str(p.file), "sample": p.sample, "message": p.message} for p in problems]
    answer(result, show_diagnosis, json)
    if result["problems"]:
        raise CommandFailed


def report(run: Positional[Path], out: Path | None = None, images: int = 12, json: bool = False) -> None:
    """One HTML page with the pictures and figures of a run.

    Args:
        run: Folder of the run.
        out: Folder of the page; by default `report` in the run.
        images: Images to show at most.
        json: Print one JSON object on standard output.
    """
    from flows.commands.report import make_report, show_report

    answer(make_report(run, out, images), show_report, json)


def compare_runs(
    runs: Positional[tuple[Path, ...]], out: Path | None = None, images: int = 10, json: bool = False
) -> None:
    """What differs between runs: settings, code, scores, and the images that gained and lost most.

    Args:
        runs: Folders of two runs or more; the first is what the others are compared with.
        out: Folder of a page with pictures of these images.
        images: Images that are listed, of those that gained and of those that lost.
        json: Print one JSON object on standard output.
    """
    from flows.commands.compare_runs import compare_runs as compare
    from flows.commands.compare_runs import show_runs

    answer(compare(runs, out, images), show_runs, json)


def evaluate(
    kind: Positional[Literal["semantic", "instances", "saliency"]],
    pred: Path,
    gt: Path,
    classes: Path | None = None,
    split: str | None = None,
    json: bool = False,
) -> None:
    """Labels against ground truth: mIoU, average precision of masks, or error and largest F of saliency.

    Args:
        kind: What to compare.
        pred: Folder of label maps, of a run or of a training, or COCO JSON with scores for instances; for saliency of
            maps in grey, 255 where it is sure.
        gt: Folder of label maps, or COCO JSON for instances; sets of scenes, and of masks of salient objects, are known
            by their layout.
        classes: File with the name of a class per line; called values.txt, of a value per line, where there is no
            background. By default the set's own table, or `classes.txt` beside either, else VOC's.
        split: The images of the ground truth to score: a list of the set, or a file; by default all.
        json: Print one JSON object on standard output.
    """
    from flows.commands.evaluate import evaluate as evaluate_labels
    from flows.commands.evaluate import show_scores

    answer(evaluate_labels(kind, pred, gt, classes, list_or_file(split)), show_scores, json)


def export(
    run: Positional[tuple[str, ...]],
    out: Path,
    format: ExportFormat = "both",
    json: bool = False,
) -> None:
    """The labels of a run, or the network of a training, in other tools' formats; or a run's attention maps.

    Args:
        run: Folder of the run or the training; with the word cams before it, what is written are the class attention
            maps of the run, in the form that `run --cams` reads.
        out: Folder of the labels or the maps, or file of the network.
        format: Of a run VOC palette PNGs, COCO JSON, both, or YOLO polygons; of a training ONNX or TorchScript.
        json: Print one JSON object on standard output.
    """
    *words, folder = run or ("",)
    if words not in ([], ["cams"]) or not folder:
        raise ArtifactError(f"export {' '.join(run)}: expected the folder of a run, or the word cams and that folder")
    if words:
        from flows.commands.export_cams import export_cams, show_cams

        answer(export_cams(Path(folder), out), show_cams, json)
    elif format in ("onnx", "torchscript"):
        from flows.commands.export_network import export_network, show_network

        answer(export_network(Path(folder), out, format), show_network, json)
    else:
        from flows.commands.export import export_labels, show_export

        answer(export_labels(Path(folder), out, format), show_export, json)


def models(
    classes: int = 20, size: tuple[int, int] = (512, 512), backbone: str | None = None, json: bool = False
) -> None:
    """Every network: parameters and multiply-adds.

    Args:
        classes: Foreground classes.
        size: Height and width of the input that the multiply-adds are counted for.
        backbone: Only the networks on this one, which may be timm:NAME; by default all on every one of ours.
        json: Print one JSON list on standard output.
    """
    from flows.commands.models import list_models, show_models

    result = list_models(classes, size, backbone)
    answer(result, lambda shown, console: show_models(shown, console, classes=classes, size=size), json)


def gc(
    store: Positional[str],
    keep_days: float = 30,
    delete: bool = False,
    forget: tuple[Path, ...] = (),
    json: bool = False,
) -> None:
    """Artifacts that no published version and no recent run needs; what they hold, and with --delete its end.

    Args:
        store: Folder or address of the artifacts.
        keep_days: Runs begun in these last days keep all their artifacts; older ones their networks.
        delete: Delete them; without, only say what would be.
        forget: Folders of runs that were deleted for good, and need nothing any more.
        json: Print one JSON object on standard output.
    """
    from flows.commands.gc import collect_garbage, show_garbage

    answer(collect_garbage(store, keep_days, delete, forget), show_garbage, json)


def download(
    name: Positional[Literal["voc12", "sbd", "coco14", "camvid", "duts"]],
    out: Path = Path("datasets"),
    keep: bool = False,
    json: bool = False,
) -> None:
    """Fetch a public data set: resumed after a cut, checked, unpacked. Proxies are those of HTTPS_PROXY.

    Args:
        name: The set. sbd is VOC 2012 with the masks of SBD and the list train_aug.
        out: Folder of all downloads.
        keep: Keep the archives after they were unpacked.
        json: Print one JSON object on standard output.
    """
    from flows.commands.download import download_set, show_download

    answer(download_set(name, out, keep), show_download, json)


LOOKING = (status, report, compare_runs, evaluate, export, models, doctor, gc, download)
