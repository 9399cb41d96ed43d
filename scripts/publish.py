"""Write a run as a folder to share: python scripts/publish.py RUN FOLDER [--name USER/NAME].

RUN is the folder of a run, or a .nemo file of a recogniser; FOLDER is a new folder in the form of
the Hugging Face hub: weights, config without places on disk, text encoder and self-test, with
checksums; README.md, the model card; and report/, that of the last evaluation. No training state,
log or patch. `load_run`, inference.py, init.model.source= and all scripts take FOLDER, and once it
is uploaded (`hf upload USER/NAME FOLDER`) USER/NAME. The folder is loaded before it gets its name.
"""

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from omegaconf import DictConfig, OmegaConf

from src.config import target_class
from src.datasets.demo.corpus import DemoMixtures, DemoSpeech
from src.interop.nemo_run import NemoRun
from src.interop.published_run import COMMIT, DATA, write_published
from src.report.facts import Facts, facts_of_run
from src.report.model_card import Card, model_card
from src.report.page import PAGE, copy_page, read_page
from src.report.results import Result, Results, read_results
from src.run import CHECKPOINTS, OpenedRun, Run, load_run, open_source, restore
from src.system import System
from src.utils.checkpoint import newest_weights
from src.utils.entry import run_command
from src.utils.files import create_beside, readable
from src.utils.nodes import plain
from src.utils.options import refuse
from src.utils.places import absolute_places, without_places

REPORT = "report"
INFERENCE = ("run", "checkpoint")  # keys that inference adds to the config of a run
LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
HASH = re.compile("[0-9a-f]{7,64}")
DEMO = "Demo speech: sentences of 374 words, synthesised by eSpeak NG."
DEMO_LIMITS = "A demonstration: trained on one synthesiser, it does not work for real speech."
TEXTS = (".md", ".yaml", ".json", ".txt", ".html")


def publish(arguments: argparse.Namespace) -> None:
    """Write the folder, and print what is in it.

    Raises:
        FileExistsError: the folder exists.
        FileNotFoundError: there is no run, or no checkpoint in it.
        ValueError: an option is wrong, the run is damaged, or a file would name a place on disk.
    """
    check_options(arguments)
    run, wanted = open_source(arguments.run, arguments.trust), arguments.checkpoint
    with create_beside(arguments.folder) as folder:
        own = run.read_config()
        config = OmegaConf.create(without_places(plain(own)))
        system = restore(run, config, wanted, "cpu")
        facts = facts_of_run(run.path, config, system.model)
        if not HASH.fullmatch(facts.commit):
            facts = replace(facts, commit="")
        write_published(
            folder,
            config,
            run.read_weights(wanted),
            run.read_self_test(wanted) or system.self_test(),
            system.text_encoder,
            {
                COMMIT: facts.commit,
                DATA: json.dumps(facts.trained_on) if facts.trained_on else "",
            },
        )
        results = results_of(run, own, arguments)
        listed = [] if results is None else results.results
        page = "" if results is None else copy_report(results, folder, arguments.report)
        card = make_card(run, config, system, facts, listed, page, arguments)
        (folder / "README.md").write_text(model_card(card), encoding="utf-8")
        check_texts(folder, [own, *(result.config for result in listed)], run.path)
        load_run(folder, device="cpu", trusted=arguments.trust)
    summarise(arguments, card)


def check_options(arguments: argparse.Namespace) -> None:
    """Check what argparse doesn't.

    Raises:
        ValueError: an option has another form.
    """
    if arguments.name is not None and not NAME.fullmatch(arguments.name):
        refuse("--name", arguments.name, "USER/NAME, of letters, digits, '.', '_' and '-'")
    if arguments.license is not None and not LICENSE.fullmatch(arguments.license):
        refuse("--license", arguments.license, "as the hub writes it: mit, apache-2.0, cc-by-4.0")
    if arguments.code is not None and not arguments.code.startswith("https://"):
        refuse("--code", arguments.code, "an address that begins with https://")


def results_of(run: OpenedRun, config: DictConfig, arguments: argparse.Namespace) -> Results | None:
    """The results of the checkpoint that is published."""
    weights = newest_weights(run.checkpoint(arguments.checkpoint))
    both = not isinstance(run, Run) or not any(run.path.glob("best*"))
    names = CHECKPOINTS if both else (arguments.checkpoint,)
    return read_results(run.path, run.inference_path, config, weights, names, arguments.trust)


def copy_report(results: Results, folder: Path, choice: str) -> str:
    """Copy the report of an evaluation, without places on disk in its config.

    Args:
        results: of the evaluation.
        folder: in which the report gets a folder.
        choice: `all`, `page` or `none`.

    Returns:
        Path of the page in the folder; empty if there is none, or none is wanted.
    """
    source = results.folder / PAGE
    if choice == "none" or not source.exists():
        return ""
    config = without_places(plain(results.results[0].config))
    shown = {key: value for key, value in config.items() if key not in INFERENCE}
    copy_page(source, folder / REPORT, OmegaConf.to_yaml(OmegaConf.create(shown)), choice == "all")
    return f"{REPORT}/{PAGE}"


def make_card(
    run: OpenedRun,
    config: DictConfig,
    system: System,
    facts: Facts,
    results: list[Result],
    page: str,
    arguments: argparse.Namespace,
) -> Card:
    """What the model card is made of."""
    task = target_class(config, "task")
    normalizer = getattr(system.text_encoder, "normalizer", None)
    trained = not isinstance(run, NemoRun)
    demo = trained and is_demo(config)
    return Card(
        name=arguments.name or arguments.folder.resolve().name,
        task=task.name,
        inference=task.inference,
        facts=facts,
        config=plain(config),
        architecture=type(system.model).__name__,
        checkpoint=arguments.checkpoint,
        trained=trained,
        language=None if normalizer is None else normalizer.language,
        license=arguments.license,
        data=arguments.data or DEMO * demo,
        limits=DEMO_LIMITS * demo,
        code=arguments.code or "",
        trusted=arguments.trust,
        results=results,
        page=page,
    )


def is_demo(config: DictConfig) -> bool:
    """Whether a run was trained on the demo speech."""
    if OmegaConf.select(config, "datasets.train") is None:
        return False
    return issubclass(target_class(config.datasets, "train"), DemoSpeech | DemoMixtures)


def check_texts(folder: Path, configs: list[DictConfig], run: Path) -> None:
    """Check that no text that is published names a place on this computer.

    Args:
        folder: with the texts.
        configs: of the run and its evaluations, whose absolute paths are looked for.
        run: its folder.

    Raises:
        ValueError: one does.
    """
    places = absolute_places([plain(config) for config in configs])
    here = {str(path.resolve()) for path in (Path.home(), Path.cwd(), ROOT, run)}
    secret = [re.escape(place) for place in here | places if len(Path(place).parts) > 1]
    pattern = re.compile(rf"(?<![\w.])({'|'.join(secret)})(?![\w-])")
    for path in sorted(folder.rglob("*")):
        if path.suffix in TEXTS:
            match = pattern.search(path.read_text(encoding="utf-8", errors="replace"))
            if match:
                name = path.relative_to(folder)
                advice = "; --report none leaves it out" if name.parts[0] == REPORT else ""
                raise ValueError(
                    f"{name}: would name {match[0]}, a place of this computer{advice}."
                )


def summarise(arguments: argparse.Namespace, card: Card) -> None:
    """Print the files with their sizes, and what to do with them."""
    folder, name = arguments.folder, arguments.name or "USER/NAME"
    for path in sorted(folder.iterdir()):
        files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
        size = readable(sum(one.stat().st_size for one in files))
        count = f", {len(files)} files" if path.is_dir() else ""
        print(f"{path.name:<24} {size}{count}")
    if not card.results:
        print("\nNo metrics: this checkpoint wasn't evaluated; see inference.py.")
    if card.license is None:
        print("No licence: nobody may use the model before you name one by --license.")
    if card.page and arguments.report == "all":
        print(
            f"The report has audio and transcripts of {shown_evaluations(folder / card.page)}; "
            "--report page leaves audio out, --report none all."
        )
    print(f"\nUpload: hf upload {name} {folder}")
    print(f'Load:   load_run("{folder}"), then load_run("{name}")')


def shown_evaluations(page: Path) -> str:
    """The names of the evaluations on a page."""
    return ", ".join(str(one["name"]) for one in read_page(page))


def main() -> None:
    """Parse the command line and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run, also user/name on the hub, or a .nemo file")
    parser.add_argument("folder", type=Path, help="to create")
    parser.add_argument("--name", metavar="USER/NAME", help="on the hub, for the model card")
    parser.add_argument("--license", help="of the model, e.g. mit or cc-by-4.0")
    parser.add_argument("--data", metavar="TEXT", help="what it was trained on, for the model card")
    parser.add_argument("--code", metavar="URL", help="of the repository, for the model card")
    parser.add_argument(
        "--report",
        default="all",
        choices=("all", "page", "none"),
        help="of the evaluation: with audio and pictures (default), without them, or none",
    )
    parser.add_argument("--checkpoint", default="best", choices=CHECKPOINTS, help="default: best")
    parser.add_argument(
        "--trust", nargs="*", default=[], metavar="PACKAGE", help="that the run's config may name"
    )
    arguments = parser.parse_args()
    run_command(lambda: publish(arguments))


if __name__ == "__main__":
    main()
