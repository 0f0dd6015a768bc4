"""Trials of candidates, by Optuna: the whole grid where it is small, else where the search has done well.

The study lies in an SQLite file: a search that was killed goes on with the same command.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState

from data.store import ArtifactError
from tasks.tuning.space import Space, Values

STUDY = "study.sqlite"
MOST_ASKED = 4
"""The sampler is asked for so many candidates per trial: it may name one that was tried already."""
Evaluate = Callable[[Values], float]


def search(space: Space, evaluate: Evaluate, file: Path, name: str, *, trials: int, seed: int) -> list[Values]:
    """Try candidates until there are as many as wanted, or all; return all that were tried, the first first.

    Args:
        space: What is searched.
        evaluate: Gives what is to be as high as possible; the same for the same candidate.
        file: Of the study.
        name: Of the study: the same for a search of the same.
        trials: Number of candidates.
        seed: Of what is drawn at random.

    Raises:
        ArtifactError: The file is none of a study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _open(file, name, TPESampler(seed=seed))
    tried = {_name_of(values): values for values in _tried(study, space)}
    if space.size <= trials:
        for values in space.candidates():
            if _name_of(values) not in tried:
                tried[_name_of(values)] = values
                study.add_trial(_finished(space, values, evaluate(values)))
        return list(tried.values())
    for _ in range(MOST_ASKED * trials):
        if len(tried) >= trials:
            break
        # What was killed in the middle stays open, and is drawn anew.
        trial = study.ask()
        values = _values_of(space, {key: trial.suggest_int(key, 0, len(space.values[key]) - 1) for key in space.values})
        study.tell(trial, evaluate(values))
        tried[_name_of(values)] = values
    return list(tried.values())


def _finished(space: Space, values: Values, figure: float) -> optuna.trial.FrozenTrial:
    """Return the record of a candidate that was evaluated."""
    places = {name: space.values[name].index(value) for name, value in values.items()}
    ranges: dict[str, BaseDistribution] = {name: IntDistribution(0, len(space.values[name]) - 1) for name in values}
    return optuna.trial.create_trial(params=places, distributions=ranges, value=figure)


def _open(file: Path, name: str, sampler: BaseSampler) -> optuna.Study:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        return optuna.create_study(
            storage=f"sqlite:///{file.absolute()}",
            study_name=name,
            direction="maximize",
            sampler=sampler,
            load_if_exists=True,
        )
    except Exception as error:
        # SQLAlchemy, alembic and Optuna each have errors of their own for it.
        message = f"{file}: cannot be used as the record of a search ({type(error).__name__}); delete it to begin anew"
        raise ArtifactError(message) from error


def _tried(study: optuna.Study, space: Space) -> Iterator[Values]:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        yield _values_of(space, trial.params)


def _values_of(space: Space, places: dict[str, int]) -> Values:
    """Return the values at places in the lists of a space."""
    return {name: values[int(places[name])] for name, values in space.values.items()}


def _name_of(values: Values) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(values.items()))
