"""Sets brought to another class table, by the names of the classes."""

from __future__ import annotations

from dataclasses import replace

from data.dataset import RESERVED, ClassTable, Dataset, DatasetError, Sample, SampleWithMore, with_more


def extended(table: ClassTable, own: ClassTable) -> ClassTable:
    """Return a class table with those classes of another that it lacks at its end."""
    ids, given = list(table.category_ids), dict(zip(own.names, own.category_ids, strict=True))
    new = [name for name in own.real_names if name not in table.names]
    for name in new:
        ids.append(given[name] if given[name] not in ids else max(ids) + 1)
    return ClassTable((*table.names, *new), tuple(ids), table.has_background, table.origin)


def in_table(dataset: Dataset, table: ClassTable) -> Dataset:
    """Return a set with another class table, which has all classes of its labels.

    Raises:
        DatasetError: The set has label maps, in which a class has another value.
    """
    own = dataset.classes
    if any(sample.semantic or sample.instances for sample in dataset.samples):
        _check_values(dataset, table)
    numbers = {name: number for number, name in enumerate(table.names)}
    # The file keeps its own ids; -1 and below are no category's.
    ids = dict(zip(own.names, own.category_ids, strict=True))
    categories = tuple(ids.get(name, -1 - number) for number, name in enumerate(table.names))

    def renumbered(sample: Sample) -> Sample:
        order = sorted(range(len(sample.labels)), key=lambda place: numbers[own.names[sample.labels[place]]])
        labels = tuple(numbers[own.names[sample.labels[place]]] for place in order)
        found = replace(sample, labels=labels, coco=sample.coco and replace(sample.coco, category_ids=categories))
        if not isinstance(sample, SampleWithMore):
            return found
        # Of classes that are new to the set nothing is known where others are not.
        new = [c for name, c in numbers.items() if name not in own.names and name != RESERVED] if sample.unknown else []
        unknown = sorted([*(numbers[own.names[c]] for c in sample.unknown if own.names[c] in numbers), *new])
        certainty = tuple(sample.certainty[place] for place in order) if sample.certainty else ()
        return with_more(found, unknown=tuple(unknown), certainty=certainty)

    return replace(dataset, classes=table, samples=tuple(map(renumbered, dataset.samples)))


def _check_values(dataset: Dataset, table: ClassTable) -> None:
    expected, found = table.values, dataset.classes.values
    for value, name in enumerate(found):
        if (wanted := expected.index(name)) != value:
            raise DatasetError(
                f"{dataset.root}: the class {name!r} has the value {value} in its label maps, expected {wanted}, as in "
                f"the table {', '.join(table.names)}; give the label maps these values, and name the classes in this "
                "order, new ones last, in a file for --classes"
            )
