"""The flows `approve-labels` and `rollback-labels`: a person's word on a version, from Prefect's UI or its commands."""

from __future__ import annotations

from typing import Annotated, Any

from prefect.states import Completed
from pydantic import Field

from flows.deployment.flow import deployable
from flows.deployment.ui import showing
from flows.publishing.approval import ApproveRequest, PersonName, RollbackRequest, approve_version, roll_back
from flows.publishing.assets import show_latest


class ApproveForm(ApproveRequest):
    """A version of published labels that shall be the latest.

    Attributes:
        version: Number of the version: the one that was looked at, not one that came since.
        by: Who approves it, for the record.
    """

    version: Annotated[int, Field(ge=1)]  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    # The worker's user is not who asks for the run.
    by: PersonName  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]


class RollbackForm(RollbackRequest):
    """An earlier version of published labels that shall be the latest.

    Attributes:
        by: Who goes back, for the record.
    """

    by: PersonName  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]


@deployable("approve-labels")
def approve_labels(request: ApproveForm) -> Any:
    """Publish a version that was held for review; who did it is recorded with the versions.

    Raises:
        ArtifactError: There is no such version, none is held, or the folder cannot be written.
    """
    answer = approve_version(request.out, request.version, request.by)
    with showing("the asset of the publication"):
        show_latest(request.out, answer)
    return Completed(name="Approved", message=f"Approved v{answer['latest']}, by {answer['by']}", data=answer)


@deployable("rollback-labels")
def rollback_labels(request: RollbackForm) -> Any:
    """Make an earlier version the latest again; who did it is recorded with the versions.

    Raises:
        ArtifactError: There is no such version, none before, or the folder cannot be written.
    """
    answer = roll_back(request.out, request.to, request.by)
    with showing("the asset of the publication"):
        show_latest(request.out, answer)
    return Completed(name="RolledBack", message=f"Back to v{answer['latest']}, by {answer['by']}", data=answer)
