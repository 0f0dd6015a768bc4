"""`pseudomask review`: people correct labels on a page in the browser, or get a list of what to correct."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from rich.console import Console

from data.user import user_name
from flows.commands.command import POSITIONAL, Command, Output, answer
from tasks.config import Config, PositiveInt


class ReviewRequest(Config):
    """Labels to be looked at and corrected.

    Attributes:
        labels: Folder of published labels, or of a run.
        author: Who corrects; by default the name of the account.
        port: Port of the page on this machine; 0 for one that is free.
        budget: Show so many images alone: unsure, typical ones whose correction is worth most.
        list: Print the images in their order, and serve no page.
    """

    labels: Path
    author: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    budget: PositiveInt | None = None
    list: bool = False


def show_address(result: dict[str, Any], console: Console) -> None:
    """Print where the page is, and what to do after it."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    before = f", {result['corrected']} of them corrected before"
    shown = " whose correction is worth most" if result["proposed"] else before
    say(f"review   {result['images']} images{shown}, as {result['author']}")
    say(f"open     {result['address']}")
    say(f"saved    {result['corrections']}, at every step; Ctrl-C ends the review")


def show_order(result: dict[str, Any], console: Console) -> None:
    """Print the ids of the images, one per line."""
    for each in result["images"]:
        console.print(each["image"], highlight=False, soft_wrap=True, markup=False)


def _review(request: ReviewRequest, options: Output) -> None:
    from flows.review.server import ReviewServer
    from tasks.review.proposal import propose
    from tasks.review.session import Session
    from tasks.review.subject import open_subject

    subject = open_subject(request.labels)
    if request.budget is not None:
        subject = propose(subject, request.budget)
    if request.list:
        images = [{"image": i.id, "quality": i.quality, "why": i.why} for i in subject.images.values()]
        answer({"name": subject.name, "images": images}, show_order, options.as_json)
        return
    author = request.author or user_name("--author")
    session = Session(subject, author)
    server = ReviewServer(session, request.port)
    found = {
        "address": server.address,
        "images": len(subject.images),
        "corrected": session.queue(0, 0)["done"],
        "proposed": subject.proposed,
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
