"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SubjectArgument = Annotated[
    str, typer.Argument(help="The model: smollm2-135m, a Hugging Face id, a folder, or a .gguf file.")
]
CorpusOption = Annotated[
    str,
    typer.Option(
        help="builtin, paper, a file (text, JSONL, Parquet) or folder, a dataset (hf:owner/name?split=train), or a "
        "mixture (mix:0.5*hf:owner/name,0.5*builtin)."
    ),
]
OutOption = Annotated[Path | None, typer.Option(dir_okay=False, writable=True, help="Save the result as JSON.")]
HtmlOption = Annotated[Path | None, typer.Option(dir_okay=False, writable=True, help="Write the result as a web page.")]
CacheOption = Annotated[
    Path | None, typer.Option(file_okay=False, help="Where exemplars are kept; else in the user's cache folder.")
]
EmbeddingsOption = Annotated[str, typer.Option(help='"minilm", "openai:text-embedding-3-small", or "auto".')]
SimulatorOption = Annotated[
    str, typer.Option(help='"transluce", "prompted:<model>", "chat", "hybrid", which needs no LLM, or "auto".')
]
