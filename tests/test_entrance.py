"""Licence, citation and metadata agree with one another."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_the_licence_is_apache_2_everywhere() -> None:
    assert PROJECT["license"] == CITATION["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert [line.strip() for line in text.splitlines() if line.strip()][:2] == [
        "Apache License",
        "Version 2.0, January 2004",
    ]
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_citation_names_this_version_and_the_four_papers() -> None:
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["authors"] == [{"name": PROJECT["authors"][0]["name"]}]
    first_authors = {paper["authors"][0]["family-names"]: paper["year"] for paper in CITATION["references"]}
    assert first_authors == {"Ahn": 2019, "Badrinarayanan": 2017, "Sima": 2023, "Ikedo": 2021}


def test_every_top_level_module_and_package_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {name.removesuffix("*") for name in setuptools["packages"]["find"]["include"]}
    assert found | set(setuptools["py-modules"]) == {"flows", "tasks", "models", "kernels", "data", "pseudomask"}
