"""From Samples to the report on their label errors: what every detect script ends with."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiment.command import processes
from experiment.command.errors import InputError
from experiment.files import writing
from experiment.inputs.samples import Samples
from experiment.report import scores, screen
from experiment.run import label_errors, memory, relation_maps
from experiment.run.kept import Graph
from experiment.run.result import Result
from experiment.run.settings import Settings, wants_auto

MAPPED = 20  # suspects with a relation map in the report
POINTS = 300  # of each map


def find_and_report(samples: Samples, folder: Path, settings: Settings, *,
                    noise_threshold: float, n_iter: int, graph: str, output: Path | None,
                    verbose: bool, options: dict[str, Any], show: int | None,
                    epochs: dict[str, Samples] | None = None,
                    history: dict[str, Callable[[], Samples]] | None = None) -> None:
    """Find label errors, write the report and print it.

    `folder` is the experiment's: scores are kept there for the next run as `graph` (--graph) says,
    and report/ in it is written where `output` is None. `options` are noted in metrics.json;
    `show` is how many suspects report.html shows with media and evidence, None: a handy number.
    `history` loads the same samples at each epoch of a training, in order: where there are two or
    more, the first suspects get relation maps.
    """
    output = output or folder / "report"
    writing.check_writable(output)
    n = math.ceil(len(samples) / settings.hop)
    settings = memory.fit(samples, settings, auto=wants_auto(settings, n),
                          progress=verbose)
    result = label_errors.find_label_errors(
        samples, settings, noise_threshold=noise_threshold, n_iter=n_iter, progress=verbose,
        graph=Graph.of(graph, folder, settings), epochs=epochs,
        unfinished=None if graph == "off" else folder)
    if not processes.is_first():
        return
    with processes.by_itself(), writing.alone(output):
        if history is not None and len(history) > 1:
            result = _with_maps(result, samples, history, progress=verbose)
        files = scores.write(result, output, settings=options, show=show)
    screen.show(result, output, files, verbose=verbose)


def _with_maps(result: Result, samples: Samples,
               history: dict[str, Callable[[], Samples]], *, progress: bool) -> Result:
    """The result with maps of its first suspects; with a note where an epoch does not fit."""
    rows = result.samples.index[result.most_suspect(MAPPED)].tolist()
    try:
        maps = relation_maps.maps_of((load() for load in history.values()), rows,
                                     kernel=result.kernel, points=POINTS, progress=progress)
    except InputError as error:  # not what the user asked for: no reason to end without a report
        return replace(result, notes=[*result.notes, f"no relation maps: {error}"])
    return replace(result, maps=relation_maps.Maps(list(history), maps, samples))
