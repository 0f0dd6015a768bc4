"""Table of the networks for `docs/networks.md`: python -m tasks.networks."""

from __future__ import annotations

from tasks.networks import NETWORKS


def networks_table() -> str:
    """Return a row per network: name, what it is, what it learns, its backbones, presets and deployment."""
    lines = ["| network | what it is | learns | backbones | presets | deployment |", "|---|---|---|---|---|---|"]
    for spec in NETWORKS.values():
        learns = "label maps" if spec.learns == "semantic" else "instances"
        backbones = "any" if spec.backbones else "its own"
        presets = ", ".join(f"`{preset}`" for preset in spec.presets)
        lines.append(f"| `{spec.name}` | {spec.title} | {learns} | {backbones} | {presets} | `{spec.flow}` |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(networks_table(), end="")
