"""From Samples to the report on their label errors: what every detect script ends with."""

from pathlib import Path
from typing import Any

from experiment import pipeline, processes, report, store
from experiment.arguments import RelationSettings
from experiment.graph import Graph
from experiment.samples import Samples


def find_and_report(samples: Samples, folder: Path, settings: RelationSettings, *,
                    noise_threshold: float, n_iter: int, graph: str, output: Path | None,
                    verbose: bool, options: dict[str, Any], show: int | None,
                    epochs: dict[str, Samples] | None = None) -> None:
    """Find label errors, write the report and print it.

    `folder` is the experiment's: scores are kept there for the next run as `graph` (--graph) says,
    and report/ in it is written where `output` is None. `options` are noted in metrics.json;
    `show` is how many suspects report.html shows with media and evidence, None: a handy number.
    """
    output = output or folder / "report"
    store.check_writable(output)
    result = pipeline.find_label_errors(
        samples, settings, noise_threshold=noise_threshold, n_iter=n_iter, progress=verbose,
        graph=Graph.of(graph, folder, settings), epochs=epochs,
        unfinished=None if graph == "off" else folder)
    if processes.is_first():
        with store.alone(output):
            report.write(result, output, settings=options, show=show)
        report.show(result, output, verbose=verbose)
