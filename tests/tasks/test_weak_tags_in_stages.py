"""Tags that are not known or not sure, in the classifier and in what is taken for background."""

import json

import numpy as np
import torch

from data.dataset import VOID, with_more
from data.formats.label_folder import SEMANTIC, SURE
from data.formats.label_maps import read_label_map
from tasks.pipeline.labels import synthesize_labels
from tasks.pipeline.relations import mine_relations
from tasks.pipeline.seeds.classifier import _loss, train_classifier
from tasks.pipeline.settings import ClassifierConfig, LabelsConfig, RelationsConfig


def test_what_nobody_knows_teaches_nothing_and_what_is_doubted_less() -> None:
    wanted = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weights = torch.tensor([[0.5, 0.0], [1.0, 1.0]])
    for kind in ("prior", "soft_margin"):
        logits = torch.zeros(2, 2, requires_grad=True)
        loss_of, initial = _loss(ClassifierConfig(loss=kind), wanted, weights, "cpu")
        loss_of(logits, wanted, weights).backward()
        assert logits.grad is not None
        assert logits.grad[0, 1] == 0
        assert (logits.grad[[0, 1, 1], [0, 0, 1]] != 0).all()
        sure = torch.zeros(2, 2, requires_grad=True)
        loss_of(sure, wanted, torch.ones(2, 2)).backward()
        assert sure.grad is not None
        assert logits.grad[0, 0] == sure.grad[0, 0] / 2
        assert initial > 0
    same, known = (_loss(ClassifierConfig(loss="prior"), wanted, w, "cpu")[1] for w in (weights, torch.ones(2, 2)))
    assert same < known


def test_images_that_are_not_known_whole_judge_no_classifier(tiny_set, run_stage) -> None:
    others = tuple(range(1, len(tiny_set.classes)))
    first = with_more(tiny_set.samples[0], labels=(0,), unknown=others)
    config = ClassifierConfig(resize_long=(64, 80), crop_size=64, batch_size=3, epochs=1, loss="prior", held_out=0.1)
    folder = run_stage(train_classifier, config, samples=(first, *tiny_set.samples[1:]))
    summary = json.loads((folder.parent / "summary.json").read_text())
    assert summary["tags"]["judged"] == len(tiny_set.samples) - 1
    alone = run_stage(train_classifier, config, samples=(first,) * 2)
    assert json.loads((alone.parent / "summary.json").read_text())["tags"] == {}


def test_background_is_not_sure_where_a_class_may_have_gone_unnamed(tiny_set, artifacts, run_stage) -> None:
    tagged = next(sample for sample in tiny_set.samples if sample.labels)
    bare = next(sample for sample in tiny_set.samples if not sample.labels)
    unknown = tuple(c for c in range(len(tiny_set.classes)) if c not in tagged.labels)
    samples = (with_more(tagged, unknown=unknown), with_more(bare, unknown=(0,)))
    relations = run_stage(mine_relations, RelationsConfig(), samples=samples, cams=artifacts["cams"])
    for sample in samples:
        assert not (read_label_map(relations / f"{sample.id}.png") == 0).any()
    config = LabelsConfig(sure_thresholds=(0.1, 0.4))
    made = run_stage(synthesize_labels, config, samples=samples, walk=artifacts["walk"])
    plain = run_stage(synthesize_labels, config, walk=artifacts["walk"])
    for sample in samples:
        name = f"{sample.id}.png"
        sure, before = (read_label_map(folder / SURE / name) for folder in (made, plain))
        np.testing.assert_array_equal(sure, np.where(before == 0, VOID, before))
        assert (made / SEMANTIC / name).read_bytes() == (plain / SEMANTIC / name).read_bytes()
