"""`pseudomask review`: people correct labels on a page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from rich.console import Console

from data.user import user_name
from flows.commands.command import POSITIONAL, Command, Output, answer
from tasks.config import Config


class ReviewRequest(Config):
    """Labels to be looked at and corrected.

    Attributes:
        labels: Folder of published labels, or of a run.
        author: Who corrects; by default the name of the account.
        port: Port of the page on this machine; 0 for one that is free.
    """

    labels: Path
    author: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    port: Annotated[int, Field(ge=0, le=65535)] = 0


def show_address(result: dict[str, Any], console: Console) -> None:
    """Print where the page is, and what to do after it."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    say(f"review   {result['images']} images, {result['corrected']} of them corrected before, as {result['author']}")
    say(f"open     {result['address']}")
    say(f"saved    {result['corrections']}, at every step; Ctrl-C ends the review")


def _review(request: ReviewRequest, options: Output) -> None:
    from flows.review.server import ReviewServer
    from tasks.review.session import Session
    from tasks.review.subject import open_subject

    subject = open_subject(request.labels)
    author = request.author or user_name("--author")
    session = Session(subject, author)
    server = ReviewServer(session, request.port)
    found = {
        "address": server.address,
        "images": len(subject.images),
        "corrected": session.queue(0, 0)["done"],
        "author": author,
        "corrections": str(subject.corrections.root),
    }
    answer(found, show_address, options.as_json)
    server.run()


COMMAND = Command(
    name="review",
    help="Look at labels in the browser, the least sure first, and correct them.",
    request=ReviewRequest,
    carry_out=_review,
    written={"labels": POSITIONAL},
)
