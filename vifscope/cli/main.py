"""The command `vifscope`: parse, call one public function, print."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vif_core.errors import UsageError, VifError

if TYPE_CHECKING:
    from vifscope.api import Run

Rows = Literal["response", "last", "question", "text"]

EXIT_CODES = "Exit codes: 0 all is well, 1 failure, 2 wrong usage, 3 some samples failed (recorded), 130 interrupted."

app = typer.Typer(
    help="See where a vision-language model looks, layer by layer.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Runs the command of sys.argv; an error that the user can act on is one line on stderr."""
    try:
        app(prog_name="vifscope")
    except VifError as error:
        print(f"vifscope: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@app.command(epilog=EXIT_CODES)
def analyze(
    model: Annotated[str, typer.Option(help="mini-llava, a local folder, or a hub id.")] = "mini-llava",
    data: Annotated[
        str, typer.Option(help="specks[:SPLIT], hub:OWNER/NAME[:SPLIT], or a folder, .jsonl or .json file.")
    ] = "specks",
    n: Annotated[int, typer.Option("--n", help="Samples; a larger number extends the run.")] = 500,
    out: Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/MODEL-DATA-HASH")] = None,
    rows: Annotated[Rows, typer.Option(help="Query rows that enter the metrics.")] = "response",
    store_rows: Annotated[
        Rows | None,
        typer.Option(help="Query rows whose maps are stored.", show_default="as --rows; text for mini-llava"),
    ] = None,
    max_rows: Annotated[int | None, typer.Option(help="At most so many rows a sample, evenly spaced.")] = None,
    response: Annotated[
        Literal["generated", "given"], typer.Option(help="Read the model's own response, or the answer in the data.")
    ] = "generated",
    max_new_tokens: Annotated[int, typer.Option(help="Longest generated response in tokens.")] = 96,
    batch_size: Annotated[str, typer.Option(help="Samples a forward pass.")] = "auto",
    seed: Annotated[int, typer.Option(help="Which samples: the first n of one permutation.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew if --out holds another run.")] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Write figures and index.html.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")] = False,
) -> None:
    """Measure where a model looks while it answers, and write a run.

    The same command resumes a run that was interrupted.

    Examples:

      vifscope analyze --n 500

      vifscope analyze --model llava-hf/llava-1.5-7b-hf --data my_images/ --n 40

      vifscope analyze --data specks:val --rows last --json > summary.json
    """
    from vifscope.cli.output import stdout_to_stderr

    try:
        with stdout_to_stderr():
            run = _analyze(
                model,
                data,
                n,
                out,
                rows=rows,
                store_rows=store_rows,
                max_rows=max_rows,
                response=response,
                max_new_tokens=max_new_tokens,
                batch_size=_batch_size(batch_size),
                seed=seed,
                device=device,
                dtype=dtype,
                overwrite=overwrite,
                figures=figures,
            )
    except KeyboardInterrupt:
        again = shlex.join(["vifscope", *sys.argv[1:]])
        print(f"vifscope: interrupted; what was committed is kept. The same command resumes: {again}", file=sys.stderr)
        raise typer.Exit(130) from None
    _print_summary(run, as_json)
    if errors := run.errors:
        print(f"vifscope: {len(errors)} of {n} samples failed; the first: {errors[0]}", file=sys.stderr)
        raise typer.Exit(3)


@app.command()
def summary(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON object on stdout.")] = False,
) -> None:
    """Print a run's summary again, without its model.

    Example: vifscope summary runs/mini-llava-specks-test-1a2b3c4d
    """
    from vifscope.api import open_run

    _print_summary(open_run(run), as_json)


@app.command()
def env(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON object on stdout.")] = False,
) -> None:
    """Print versions of what vifscope stands on, and the device that it would use."""
    from vifscope.cli.environment import environment
    from vifscope.cli.output import print_json

    found = environment()
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        print(f"{name:<14}{value or 'not installed'}")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="mini-llava, or the path of a recipe.")] = "mini-llava",
    out: Annotated[Path, typer.Option(help="Folder of checkpoints and of the trained model.")] = Path("training"),
    processes: Annotated[int | None, typer.Option(help="Training processes.", show_default="as the recipe")] = None,
) -> None:
    """Train the embedded model from scratch, or go on where that stopped.

    Example: vifscope train mini-llava --out training/
    """
    from vif_core.train.recipe import train as train_recipe

    print(train_recipe(recipe, out, processes=processes))


@app.command()
def card(
    training: Annotated[Path, typer.Argument(help="Folder that `vifscope train` wrote.")] = Path("training"),
    recipe: Annotated[str, typer.Option(help="Its recipe.")] = "mini-llava",
    blind: Annotated[Path | None, typer.Option(help="A model trained on text alone, for its column.")] = None,
) -> None:
    """Measure a trained model on what it never saw, and write its card beside the weights.

    Example: vifscope card training/ --blind training-blind/mini-llava-blind
    """
    from vifscope.evidence.card import write_card

    print(write_card(training, recipe, blind))


def _analyze(*args: Any, **options: Any) -> Run:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from vifscope.api import analyze as analyze_model
    from vifscope.cli.progress import progress_bar

    with progress_bar() as progress:
        return analyze_model(*args, **options, progress=progress)


def _print_summary(run: Run, as_json: bool) -> None:
    from rich.console import Console

    from vifscope.cli.output import print_json
    from vifscope.cli.table import summary_view

    results = run.summary_dict()
    if as_json:
        print_json(results)
        return
    console = Console()
    console.print(summary_view(results))
    console.print(f"\n{run.path}", highlight=False, soft_wrap=True)
    for file in results["files"]:
        console.print(f"  {file}", highlight=False, soft_wrap=True)


def _batch_size(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--batch-size is {text!r}", expected='"auto" or a number from 1 on')
    return int(text)
