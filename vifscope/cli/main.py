"""The command `vifscope`: parse, call one public function, print."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vif_core.errors import UsageError, VifError

if TYPE_CHECKING:
    from rich.console import Console

    from vifscope.ablation import Ablation
    from vifscope.api import Run
    from vifscope.evaluation import Evaluation
    from vifscope.runs import RunStore

Rows = Literal["response", "last", "question", "text"]

EXIT_CODES = "Exit codes: 0 all is well, 1 failure, 2 wrong usage, 3 some samples failed or are lost, 130 interrupted."

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
    for command in entry_points(group="vifscope.commands"):  # of packages that stand above this one
        app.command(command.name, epilog=EXIT_CODES)(command.load())
    try:
        app(prog_name="vifscope")
    except VifError as error:
        print(f"vifscope: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@app.command(epilog=EXIT_CODES)
def check(
    model: Annotated[str, typer.Argument(help="mini-llava, a local folder, or a hub id.")],
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the proofs as one JSON object on stdout.")] = False,
) -> None:
    """Prove on a model that what vifscope reads of it is right, and say how long each proof took.

    Examples:

      vifscope check mini-llava

      vifscope check llava-hf/llava-1.5-7b-hf --device cuda --json
    """
    from vifscope.check import check_model
    from vifscope.cli.output import print_json, stdout_to_stderr

    with _interruptible("nothing was to be kept"), stdout_to_stderr():
        checked = check_model(model, device=device, dtype=dtype)
    if as_json:
        print_json(checked.as_dict())
    else:
        for proof in checked.proofs:
            print(f"{proof.verdict:7} {proof.claim:48} {proof.seconds:6.2f} s  {proof.seen}")
    if not checked.passed:
        raise typer.Exit(1)


@app.command(epilog=EXIT_CODES)
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print the families as one JSON object on stdout.")] = False,
) -> None:
    """List the families of vision-language models, and what was proved of each on a small random model of it.

    Of a model itself, whatever its family, the same is proved by: vifscope check MODEL
    """
    from dataclasses import asdict

    from rich.console import Console

    from vifscope.cli.models import families_view
    from vifscope.cli.output import print_json
    from vifscope.families import families

    if as_json:
        print_json({"families": [asdict(family) for family in families()]})
    else:
        Console().print(families_view(families()))


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

    with _interruptible("what was committed is kept"), stdout_to_stderr():
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
    _print_summary(run, as_json)
    _exit_where_some_failed(run.errors, len(run.samples()))


@app.command()
def summary(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON object on stdout.")] = False,
) -> None:
    """Print a run's summary again, without its model. A file of it that is corrupt is named, and left out.

    Example: vifscope summary runs/mini-llava-specks-test-1a2b3c4d
    """
    from vifscope.api import open_run

    _print_summary(open_run(run), as_json)


@app.command(epilog=EXIT_CODES)
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs of the same data; the first is the baseline.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the tables, figures and page.", show_default="runs/compare-RUN-RUN-HASH"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON object on stdout.")] = False,
) -> None:
    """Hold runs against the first of them, sample by sample: attention in every layer, and accuracy.

    Only samples that all runs measured count. Writes comparison.csv, accuracy.csv, figures and index.html.

    Examples:

      vifscope compare runs/mini-llava-specks-test-1a2b3c4d runs/mini-llava-vif-specks-test-5e6f7a8b

      vifscope compare runs/control runs/vif runs/vif-swapped --out comparison/ --json > comparison.json
    """
    from rich.console import Console

    from vifscope.api import compare as compare_runs
    from vifscope.cli.comparison import comparison_view
    from vifscope.cli.output import print_json

    comparison = compare_runs(runs)
    path = comparison.write(out)
    found = comparison.summary_dict(comparison.files)
    if as_json:
        print_json(found | {"folder": str(path)})
    else:
        console = Console()
        console.print(comparison_view(found))
        _print_files(console, path, found["files"])
    _exit_where_corrupt([side.run for side in comparison.sides])


@app.command(epilog=EXIT_CODES)
def figures(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs of the same data; the first is the baseline.")],
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("figures"),
    formats: Annotated[str, typer.Option("--format", help="Of pdf, png, svg and html, with commas.")] = "pdf,png",
    paper: Annotated[bool, typer.Option("--paper", help="Also hold the runs against the paper's claims.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Draw every figure of some runs, and hold them against the paper's claims.

    Examples:

      vifscope figures runs/mini-llava-specks-test-1a2b3c4d --out figures/

      vifscope figures runs/baseline runs/vif --paper --format pdf
    """
    from vifscope.api import open_run
    from vifscope.cli.output import print_json
    from vifscope.cli.progress import progress_bar
    from vifscope.drawing import draw

    stores = [open_run(run).store for run in runs]
    with progress_bar() as progress:
        asked = [each.strip() for each in formats.split(",")]
        files, found = draw(stores, out, asked, paper=paper, progress=progress)
    if as_json:
        said = [{"claim": claim.claim, "agrees": claim.agrees, "sentence": claim.sentence} for claim in found]
        print_json({"folder": str(out), "files": files, "claims": said})
    else:
        for claim in found:
            print(claim.sentence)
        print(out)
    _exit_where_corrupt(stores)


@app.command("eval", epilog=EXIT_CODES)
def evaluate(
    model: Annotated[str, typer.Option(help="mini-llava, a local folder, or a hub id.")] = "mini-llava",
    data: Annotated[
        str, typer.Option(help="specks[:SPLIT], hub:OWNER/NAME[:SPLIT], or a folder, .jsonl or .json file.")
    ] = "specks",
    n: Annotated[
        str | None,
        typer.Option("--n", help="Samples, or all; a larger number extends the file.", show_default="500, or all"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A .jsonl file with a line a sample; resumes.")] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Also answer from a grey image, and by majority.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response in tokens.")] = 96,
    batch_size: Annotated[str, typer.Option(help="Samples a batch.")] = "auto",
    seed: Annotated[int, typer.Option(help="Which samples: the first n of one permutation.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")] = False,
) -> None:
    """Measure how many questions a model answers rightly, by kind and by size of the target.

    Attention is not read. With --out, the same command goes on where it was interrupted.

    Right are the answer's words but for case, punctuation and articles. Of kind
    grounding: a place whose IoU with the answer's is 0.5 or more, in words or as
    x0, y0, x1, y1 in the answer's unit; of kind describe: facts with an F1 of 0.5
    or more; of kind relation: what is said last, after the reasons.

    Examples:

      vifscope eval --model mini-llava --data specks:heldout --n all --blind

      vifscope eval --model llava-hf/llava-1.5-7b-hf --data my_images/ --out answers.jsonl

      vifscope eval --n 2000 --json > accuracy.json
    """
    from rich.console import Console

    from vifscope.cli.evaluation import evaluation_view
    from vifscope.cli.output import print_json, stdout_to_stderr

    options = {"max_new_tokens": max_new_tokens, "seed": seed, "device": device, "dtype": dtype}
    with _interruptible("what was answered is kept" if out else ""), stdout_to_stderr():
        found = _evaluate(model, data, _number(n), out, blind=blind, batch_size=_batch_size(batch_size), **options)
    results = found.summary_dict()
    if as_json:
        print_json(results)
    else:
        console = Console()
        console.print(evaluation_view(results))
        if out is not None:
            _print_files(console, out, [])
    _exit_where_some_failed(found.errors, len(found.records))


@app.command(epilog=EXIT_CODES)
def ablate(
    recipe: Annotated[str, typer.Argument(help="A recipe with VIF: its name or path.")] = "mini-llava-vif",
    budget: Annotated[
        float | None,
        typer.Option(
            help="Minutes of each training on this machine, timed with VIF as the recipe has it: arms with more layer "
            "pairs take longer."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of each training.", show_default="as the recipe")] = None,
    arms: Annotated[str | None, typer.Option(help="Names, with commas between.", show_default="all of them")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of each arm, as in 1-5 or 1,3.")] = "1-3",
    n_eval: Annotated[int, typer.Option(help="Samples to ask about, half of them tiny objects, if any.")] = 2000,
    n_flow: Annotated[int, typer.Option(help="Of those, how many to read attention and maps of.")] = 400,
    n_checks: Annotated[int, typer.Option(help="Of those, how many to ask again with other maps.")] = 500,
    model: Annotated[str | None, typer.Option(help="What is trained.", show_default="as the recipe")] = None,
    data: Annotated[
        str | None, typer.Option(help="What is asked about.", show_default="the recipe's test split")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder.", show_default="runs/ablate-RECIPE")] = None,
    processes: Annotated[
        int | None, typer.Option(help="Processes of each training and of measuring.", show_default="as the recipe")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as one JSON object on stdout.")] = False,
) -> None:
    """Train VIF, its controls and its variants alike, measure them on the test split, and write one table.

    Each arm and seed is trained and measured once: the same command goes on where it stopped, and other arms, seeds and
    numbers of samples add to it. Arms: vif, control, swapped, constant, no-posterior, no-sparsity, full-sequence,
    deep-only, mid-feature, default, early, late, five-pairs.

    Examples:

      vifscope ablate --budget 10

      vifscope ablate --steps 200 --arms vif,control,swapped,constant --seeds 1-5 --n-eval 8000
    """
    from rich.console import Console

    from vifscope.ablation.result import unfinished_text
    from vifscope.cli.ablation import ablation_view, progress_lines, read_seeds
    from vifscope.cli.output import print_json, stdout_to_stderr

    chosen = None if arms is None else [name.strip() for name in arms.split(",")]
    numbers = {"n_eval": n_eval, "n_flow": n_flow, "n_checks": n_checks}
    with _interruptible("what was trained and measured is kept"), stdout_to_stderr(), progress_lines() as progress:
        found = _ablate(
            recipe,
            out,
            budget_minutes=budget,
            steps=steps,
            arms=chosen,
            seeds=read_seeds(seeds),
            **numbers,
            data=data,
            model=model,
            processes=processes,
            progress=progress,
        )
    results = found.summary_dict()
    if as_json:
        print_json(results)
    else:
        console = Console()
        console.print(ablation_view(results))
        _print_files(console, found.experiment.path, [f"ablation.{suffix}" for suffix in ("csv", "json", "md")])
    for each in results["unfinished"]:
        print(f"vifscope: not in the table: {unfinished_text(each)}", file=sys.stderr)
    _exit_where_some_failed(list(found.errors.values()), results["samples"]["answers"])


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
    recipe: Annotated[str, typer.Argument(help="A packaged recipe, or the path of a .yaml file.")] = "mini-llava",
    out: Annotated[Path, typer.Option(help="Folder of checkpoints and of the trained model.")] = Path("training"),
    data: Annotated[
        str | None, typer.Option(help="specks, specks:train, hub:OWNER/NAME, a folder, .jsonl or LLaVA .json file.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model that is fine-tuned.", show_default="as the recipe")] = None,
    steps: Annotated[int | None, typer.Option(help="At most so many steps a phase, for trying out.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of fresh weights, rows and draws.", show_default="as the recipe")
    ] = None,
    processes: Annotated[int | None, typer.Option(help="Training processes.", show_default="as the recipe")] = None,
) -> None:
    """Train by a recipe, or go on where that stopped: with VIF or without, whole weights or LoRA.

    Packaged recipes: mini-llava (the embedded model from nothing), mini-llava-vif, llava-1.5-7b-vif and
    qwen2.5-vl-7b-vif-lora. The log is learning.jsonl in the folder, and TensorBoard's where that is installed.

    Examples:

      vifscope train mini-llava-vif --out training/

      vifscope train llava-1.5-7b-vif --data llava_v1_5_mix665k.json --out training/

      vifscope train mine.yaml --steps 5 --processes 1
    """
    from vif_core.train.recipe import train as train_recipe

    with _interruptible("what is finished and the last checkpoint are kept"):
        print(train_recipe(recipe, out, data=data, model=model, steps=steps, seed=seed, processes=processes))


@app.command()
def card(
    training: Annotated[
        Path | None, typer.Argument(help="Folder that `vifscope train` wrote.", show_default="training")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Its recipe.", show_default="mini-llava")] = None,
    blind: Annotated[Path | None, typer.Option(help="A model trained on text alone, for its column.")] = None,
    vif: Annotated[
        Path | None, typer.Option(help="Folder that `vifscope ablate` wrote: the card of its model with VIF.")
    ] = None,
    notes: Annotated[
        Path | None, typer.Option(help="With --vif: a Markdown file, what was tried.", show_default="notes.md in it")
    ] = None,
) -> None:
    """Write a trained model's card beside its weights: what it does on questions it never saw.

    Examples:

      vifscope card training/ --blind training-blind/mini-llava-blind

      vifscope card --vif runs/ablate-mini-llava-vif --notes notes.md
    """
    others = {"TRAINING": training, "--recipe": recipe, "--blind": blind} if vif else {"--notes": notes}
    if given := [name for name, value in others.items() if value is not None]:
        raise UsageError(
            f"{' and '.join(given)} {'say' if len(given) > 1 else 'says'} nothing {'with' if vif else 'without'} --vif",
            expected="--vif with --notes alone, or a training's folder with --recipe and --blind",
        )
    if vif is not None:
        from vifscope.ablation.card import write_vif_card

        print(write_vif_card(vif, notes))
        return
    from vifscope.evidence.card import write_card

    print(write_card(training or Path("training"), recipe or "mini-llava", blind))


@contextmanager
def _interruptible(kept: str) -> Iterator[None]:
    """Ends the command with code 130 on Ctrl-C, and says what is kept ("" for nothing) and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        again = shlex.join(["vifscope", *sys.argv[1:]])
        rest = f"; {kept}. The same command resumes: {again}" if kept else "; nothing is kept without --out."
        print(f"vifscope: interrupted{rest}", file=sys.stderr)
        raise typer.Exit(130) from None


def _exit_where_corrupt(stores: Sequence[RunStore]) -> None:
    lines = [line for store in stores for line in store.problems]
    for line in lines:
        print(f"vifscope: {line}", file=sys.stderr)
    if lines:
        raise typer.Exit(3)


def _exit_where_some_failed(errors: Sequence[str], n: int) -> None:
    if errors:
        print(f"vifscope: {len(errors)} of {n} samples failed; the first: {errors[0]}", file=sys.stderr)
        raise typer.Exit(3)


def _analyze(*args: Any, **options: Any) -> Run:
    from vifscope.api import analyze as analyze_model
    from vifscope.cli.progress import progress_bar

    _quiet_libraries()
    with progress_bar() as progress:
        return analyze_model(*args, **options, progress=progress)


def _evaluate(*args: Any, **options: Any) -> Evaluation:
    from vifscope.api import evaluate as evaluate_model
    from vifscope.cli.progress import progress_bar

    _quiet_libraries()
    with progress_bar() as progress:
        return evaluate_model(*args, **options, progress=progress)


def _ablate(*args: Any, **options: Any) -> Ablation:
    from vifscope.api import ablate as ablate_recipe

    _quiet_libraries()
    return ablate_recipe(*args, **options)


def _quiet_libraries() -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _print_summary(run: Run, as_json: bool) -> None:
    from rich.console import Console

    from vifscope.cli.output import print_json
    from vifscope.cli.table import summary_view

    results = run.summary_dict()
    if as_json:
        print_json(results)
    else:
        console = Console()
        console.print(summary_view(results))
        _print_files(console, run.path, results["files"])
    _exit_where_corrupt([run.store])


def _print_files(console: Console, path: Path, files: Sequence[str]) -> None:
    from rich.text import Text

    lines = ["", str(path), *(f"  {file}" for file in files)]
    console.print(Text("\n".join(lines)), soft_wrap=True)  # as they are: a name in brackets is no markup


def _number(text: str | None) -> int | Literal["all"] | None:
    if text is None or text == "all":
        return text  # type: ignore[return-value]
    if not text.isdigit():
        raise UsageError(f"--n is {text!r}", expected='"all" or a number from 1 on')
    return int(text)


def _batch_size(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--batch-size is {text!r}", expected='"auto" or a number from 1 on')
    return int(text)
