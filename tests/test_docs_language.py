"""The docs are in short sentences, and in the words of the field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(file.relative_to(ROOT).as_posix() for file in (ROOT / "docs").rglob("*.md")),
]
MOST_WORDS = 30
# Pages with longer sentences, and how many: a number may fall, and no page may join.
LONG_SENTENCES = {
    "docs/adr/0003-stages-run-in-worker-processes.md": 1,
    "docs/adr/0004-images-are-recorded-once.md": 2,
    "docs/any_set.md": 13,
    "docs/cooperative.md": 13,
    "docs/data.md": 10,
    "docs/how-to/refine_your_cams.md": 8,
    "docs/saliency.md": 11,
    "docs/scaling.md": 3,
    "docs/segnet.md": 8,
}
BETTER = {
    r"\b(are|is) others?\b": "differ, changed",
    r"\bmade anew\b": "reproduced, made again",
    r"\bfor who\b": "for those who",
    r"\ba (line|row|bar|file|module|class|folder|worker|name) an? [a-z]+": "one ... per ...",
    r"\brectifiers?\b": "ReLU",
    r"\bgives? every pixel a class\b": "semantic segmentation",
    r"\bis told\b": "reads, gets",
}


def text_of(page: str) -> str:
    """Return a page without code, headings and tables; code in a sentence is a word."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    text = re.sub(r"^(\|.*|#.*)$", "\n", text, flags=re.M)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "Code", text))


def sentences(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.)\s|\s·\s", text):
        yield from filter(None, re.split(r"(?<=[.!?:;])\s+(?=[A-Z0-9*])", " ".join(block.split())))


@pytest.mark.parametrize("page", PAGES)
def test_a_sentence_has_30_words_at_most(page: str) -> None:
    long = [sentence for sentence in sentences(text_of(page)) if len(sentence.split()) > MOST_WORDS]
    assert len(long) <= LONG_SENTENCES.get(page, 0), "\n".join(long)


def broken_lines(text: str) -> Iterator[str]:
    """Yield each line of a paragraph that goes on within a sentence."""
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*+]|\d+[.)])\s)", re.sub(r"^(\||#).*$", "", text, flags=re.M)):
        yield from (line for line in block.strip().splitlines()[:-1] if not re.search(r"[.!?:;·\\][\"')*_`\]]*$", line))


@pytest.mark.parametrize("page", PAGES)
def test_a_line_ends_where_a_sentence_ends(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    assert not list(broken_lines(text))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_in_the_words_of_the_field(page: str) -> None:
    text = " ".join(text_of(page).split())
    found = {match[0]: better for pattern, better in BETTER.items() for match in re.finditer(pattern, text)}
    assert not found


def test_the_checks_see_what_they_are_for() -> None:
    assert len(list(sentences("One. Two: Three; Four\n\n- five\n- six"))) == 6
    assert re.search(next(iter(BETTER)), "the settings of cams are others")
    assert re.search(r"\ba (line|row) an? [a-z]+", "a line an image")
    assert list(broken_lines("One.\nTwo goes\non.\n\n- three\n- four")) == ["Two goes"]
