"""Relation maps of the first suspects, as page data: a few hundred points each, and what they are.

About 12 kB a map; pictures or texts of the points are added, the strongest of each map first, until
they reach their share of the page. Others are shown by name.
"""

from typing import Any

from experiment.inputs.samples import Samples
from experiment.report.page.gallery import Gallery
from experiment.run.relation_maps import Map
from experiment.run.result import Result

MEDIA_SIZE = 2_500_000  # characters: what the maps add to a page stays below 3 MB
SHOWN = ("image", "text")  # sounds are too long to be there for every point
LONGEST_NAME = 60


def maps(result: Result, gallery: Gallery) -> dict[str, Any] | None:
    """{"epochs", "of": [one dictionary of lists for each suspect, in their order]}; None: no maps.

    Of each map the values of `Map.as_json`, and for its points "label", "positive", "media" (a
    number in the page's media) and "name", each a list, or None where nothing is known.
    """
    if result.maps is None:
        return None
    found = result.maps
    # Media that the suspects have already are found in the gallery by their samples.
    samples = result.samples if len(result.samples) == len(found.samples) else found.samples
    places = _media(found.of, samples, gallery)
    return {"epochs": found.epochs, "of": [_about(one, samples, places) for one in found.of]}


def _about(one: Map, samples: Samples, places: dict[int, int | None]) -> dict[str, Any]:
    rows = one.others.tolist()
    media = [places.get(row) for row in rows]
    return {**one.as_json(), "label": samples.labels[one.others].tolist(),
            "positive": None if samples.is_noisy is None else
            samples.is_noisy[one.others].int().tolist(),
            "media": media,
            "name": None if samples.ids is None else
            ["" if place is not None else str(samples.ids[row])[:LONGEST_NAME]
             for row, place in zip(rows, media)]}


def _media(found: list[Map], samples: Samples, gallery: Gallery) -> dict[int, int | None]:
    """Row -> number in the page's media, rank by rank over all maps until their share is used."""
    places: dict[int, int | None] = {}
    if gallery.kind not in SHOWN:
        return places
    limit = gallery.size + MEDIA_SIZE
    for rank in range(max((len(one.others) for one in found), default=0)):
        for one in found:
            if rank < len(one.others) and gallery.size < limit:
                row = int(one.others[rank])
                places[row] = gallery.add(samples, row)
    return places
