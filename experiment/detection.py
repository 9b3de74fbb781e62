"""One detection, whole: find, then report. What every detect script ends with.

Label errors, outliers, and new samples judged by the threshold of an earlier run.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiment.command import processes
from experiment.command.errors import InputError
from experiment.files import writing
from experiment.inputs.samples import Samples
from experiment.report import judged, pictures, scores, screen, suspects
from experiment.report.page import html
from experiment.run import label_errors, memory, ood, ood_threshold, relation_maps
from experiment.run.ood_baselines import Detector
from experiment.run.result import Result
from experiment.run.settings import Settings
from experiment.run.steps import Clock
from experiment.sources import Pair, Source

MAPPED = 20  # suspects with a relation map in the report
POINTS = 300  # of each map


@dataclass(frozen=True)
class Output:
    """Where the report goes, and how much is said."""

    options: dict[str, Any]  # the command line, saved in metrics.json
    folder: Path | None = None  # of the report; None: report/ in the folder of the experiment
    show: int | None = None  # suspects with media in report.html; None: a sensible default
    verbose: bool = True

    @classmethod
    def of(cls, args: argparse.Namespace, **changed: Any) -> "Output":
        """What the script's options say; `changed`: options that got another value since."""
        return cls(vars(args) | changed, args.output, args.show, args.verbose)


def report_label_errors(source: Source, settings: Settings, output: Output) -> None:
    """Find label errors, write the report and print it.

    Where the source knows two or more epochs, the first suspects get relation maps.
    """
    folder, samples = output.folder or source.folder / "report", source.samples
    writing.check_writable(folder)
    settings = memory.fit(samples, settings, progress=output.verbose,
                          auto=settings.wants_auto or settings.wants_whole_set(len(samples)))
    result = label_errors.find_label_errors(samples, settings, folder=source.folder,
                                            epochs=source.epochs, progress=output.verbose)
    if processes.is_first():
        with processes.unshared():
            if len(source.history) > 1:
                result = _with_maps(result, samples, source.history, progress=output.verbose)
        report(result, folder, output)


def report_outliers(pair: Pair, settings: Settings, output: Output,
                    detectors: Mapping[str, Detector]) -> None:
    """Find outliers, write the report and print it."""
    folder = output.folder or pair.folder / "report"
    writing.check_writable(folder)
    settings = memory.fit(pair.test, settings, auto=False, target=pair.train,
                          progress=output.verbose)
    result = ood.find_ood(pair.train, pair.test, settings, folder=pair.folder,
                          detectors=detectors, progress=output.verbose)
    if processes.is_first():
        report(result, folder, output)


def report_judgement(pair: Pair, threshold_from: Path, device: str, output: Output) -> None:
    """Judge the test rows by the threshold that an earlier run saved; write judged.csv."""
    folder = output.folder or pair.folder / "report"
    writing.check_writable(folder)
    earlier = threshold_from.parent if threshold_from.name == "metrics.json" else threshold_from
    judgement = ood_threshold.load(earlier, pair.train, device=device)(pair.test)
    if processes.is_first():
        judged.write(pair.test, judgement, folder)
        screen.show_judgement(pair.test, judgement, folder)


def report(result: Result, folder: Path, output: Output) -> None:
    """Every file of the report in `folder`, then the same on screen."""
    with processes.unshared(), writing.locked(folder):
        clock = Clock(result.seconds)
        scores.write(result, folder, progress=output.verbose)
        clock.lap("scores.csv")
        pictures.draw_scores(result, folder / "scores.png", progress=output.verbose)
        clock.lap("scores.png")
        exported = suspects.write(result, folder, progress=output.verbose)
        clock.lap("suspects")
        html.write(result, folder / "report.html", options=output.options, show=output.show,
                   progress=output.verbose)
        clock.lap("report.html")
        scores.write_metrics(result, folder, options=output.options)
    files = ["scores.csv", *exported, "metrics.json", "scores.png", "report.html"]
    screen.show(result, folder, files, verbose=output.verbose)


def _with_maps(result: Result, samples: Samples,
               history: dict[str, Callable[[], Samples]], *, progress: bool) -> Result:
    """The result with maps of its first suspects; with a note where an epoch does not fit."""
    rows = result.samples.index[result.most_suspect(MAPPED)].tolist()
    try:
        maps = relation_maps.maps_of((load() for load in history.values()), rows,
                                     kernel=result.settings.kernel, points=POINTS,
                                     progress=progress)
    except InputError as error:  # an optional extra: never fail the report over it
        return replace(result, notes=[*result.notes, f"no relation maps: {error}"])
    return replace(result, maps=relation_maps.Maps(list(history), maps, samples))
