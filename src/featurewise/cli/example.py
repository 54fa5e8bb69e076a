"""The image and the question of ``featurewise ask --example``."""

from __future__ import annotations

from pathlib import Path

import typer

IMAGE = Path(__file__).with_name("example.png")
"""Rendered by the built-in world; in none of the data sets that a system is trained on."""

QUESTION = "What color is the large metal sphere?"


def show_example(wanted: bool) -> bool:
    """Asks the model that comes with FiLM, and ends the command; an option's callback."""
    if wanted:
        from featurewise.cli.ask import ask

        typer.echo(f"image: {IMAGE}\nquestion: {QUESTION}")
        ask("film", IMAGE, QUESTION)
        raise typer.Exit
    return wanted
