"""What the report of a run shows, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from netsim.report import amounts, confusion, curves, labels, tables, timeline, topology, traffic
from netsim.report.amounts import accuracy_text, bytes_text, count_text, counted, seconds_text
from netsim.report.page import HALF, PANEL, WHOLE, Page, Part, Picture, Section, keys, picture
from netsim.report.series import ACROSS, Across, Measure, frame, lines
from netsim.report.story import Story
from netsim.report.theme import DARK, LIGHT

_OVER: dict[Across, str] = {"round": "rounds", "time": "time", "bytes": "bytes sent"}


def page(story: Story, figures: Mapping[str, Any]) -> Page:
    """figures: of summary.json."""
    config = story.config
    facts = [
        f"{config['engine']} engine" if "engine" in config else "",
        f"topology {config['topology']}" if "topology" in config else "",
        counted(int(config["rounds"]), "round") if "rounds" in config else "",
        f"seed {config['seed']}" if "seed" in config else "",
    ]
    sections = (
        _results(story, figures),
        _learning(story),
        _consensus(story),
        _mistakes(story),
        _faults(story),
        _network(story),
        _data(story),
        Section("scenario", "Scenario", tables=(tables.configuration(config),), folded=True),
    )
    return Page(curves.title(story), ", ".join(fact for fact in facts if fact), _tiles(story), sections)


def _tiles(story: Story) -> tuple[tuple[str, str, str], ...]:
    """The few figures that one looks for first."""
    tiles = []
    if story.mean_final is not None:
        tiles.append(("Mean model", accuracy_text(story.mean_final.accuracy), "accuracy"))
    mean = story.final_mean()
    if mean is not None:
        honest = [point.accuracy for node, point in story.final.items() if node not in story.adversaries]
        low, high = accuracy_text(min(honest)), accuracy_text(max(honest))
        tiles.append(("Nodes, on average", accuracy_text(mean.accuracy), f"{low} to {high}"))
    for target, success in sorted(story.back_doors.items()):
        name = amounts.class_names(story.classes, target + 1)[target]
        tiles.append((f"Back door to {name}", accuracy_text(success), "of pictures with the trigger"))
    if story.distances:
        tiles.append(("Consensus distance", f"{story.distances[-1].distance:.3g}", "at the end"))
    if story.survivors is not None:
        tiles.append(("Nodes at the end", count_text(story.survivors), f"of {count_text(story.nodes)}"))
    tiles.append(("Sent", bytes_text(story.bytes), "by all nodes"))
    tiles.append((story.clock.capitalize(), seconds_text(story.end), "until the end"))
    return tuple(tiles)


def _results(story: Story, figures: Mapping[str, Any]) -> Section:
    found = (tables.beside(story, figures), tables.adversaries(story), *tables.summary(figures))
    notes = []
    if story.adversaries:
        honest = counted(story.nodes - len(story.adversaries), "honest node")
        notes.append(f"Accuracies, means and distances are those of the {honest}.")
    if story.survivors is None:
        notes.append("The journal ends before the run did: all that follows is of the time until then.")
    if not figures:
        notes.append("The journal is of an older version: it does not hold all that the figures need.")
    return Section("results", "Results", " ".join(notes), tables=tuple(table for table in found if table))


def _learning(story: Story) -> Section:
    title = "Accuracy and loss"
    if not lines(story, "accuracy", "time"):
        return Section("learning", title, "Nothing was evaluated.")
    notes = ["Values are those at the end of the run."]
    if frame(story, "round").end is not None:
        notes.append("“end” marks the models after the last exchanges.")
    if story.lives.cuts:
        notes.append("Shaded times: the network was cut.")
    if any(line.low is not None for line in lines(story, "accuracy", "round")):
        notes.append("The pale band is from the worst to the best node of a baseline.")
    count = sum(line.kind == "node" for line in lines(story, "accuracy", "time"))
    if count > curves.MOST_LINES:
        notes.append(f"Of {count:,} nodes {curves.MOST_LINES} are drawn, evenly from the worst to the best.")
    silent = [name for name, laps in story.baselines.items() if laps[-1].bytes == 0]
    if silent:
        notes.append(f"A level line over bytes is what {' or '.join(silent)} reaches without sending any.")
    for across in ("time", "bytes"):
        for name in frame(story, across).beyond:
            end = story.baselines[name][-1]
            until = seconds_text(end.time) if across == "time" else bytes_text(end.bytes)
            notes.append(f"{name} goes on to the right, until {until}.")
    parts = [_panels(story, measure) for measure in ("accuracy", "loss")]
    legend = keys(curves.legend(LIGHT, story), curves.legend(DARK, story))
    return Section("learning", title, " ".join(notes), legend, tuple(parts))


def _panels(story: Story, measure: Measure) -> Part:
    title = curves.TITLES[measure]
    ends = "; ".join(f"{entry.name}: {entry.value}" for entry in curves.legend(LIGHT, story))
    what = ends if measure == "accuracy" else "the same lines"
    if measure == "distance":
        first, last = (point.distance for point in (story.distances[0], story.distances[-1]))
        what = f"from {first:.3g} to {last:.3g}"
    pictures = tuple(
        picture(
            partial(curves.panel, story=story, measure=measure, across=across),
            PANEL,
            f"{title} over {_OVER[across]}. {what}."
            if across == "round"
            else f"{title} over {_OVER[across]}.",
        )
        for across in ACROSS
    )
    return Part(pictures, title)


def _consensus(story: Story) -> Section:
    title = "Consensus"
    if len(story.distances) < 2:
        note = "The distance of the nodes' weights from their mean was not measured during the run."
        if story.distances:
            note += f" At the end it was {story.distances[-1].distance:.4g}."
        return Section("consensus", title, note)
    note = (
        "How far apart the nodes are: the square root of the mean squared distance of their weights from the "
        "weights' mean. 0 would be one model everywhere."
    )
    return Section("consensus", title, note, parts=(_panels(story, "distance"),))


def _mistakes(story: Story) -> Section:
    title = "Confusion"
    found = confusion.matrices(story)
    if not found:
        return Section("confusion", title, "No confusion matrix was counted.")
    pictures = []
    for index, (whose, accuracy, counts) in enumerate(found):
        wrong = int(counts.sum() - counts.trace())
        alt = f"Confusion matrix. {whose}: accuracy {accuracy}, {wrong:,} of {int(counts.sum()):,} mistaken."
        make = partial(confusion.matrix, story=story, index=index)
        pictures.append(picture(make, HALF, alt, f"{whose}, accuracy {accuracy}"))
    note = (
        "Rows are true classes, columns what they were taken for; the deeper, the larger the class's share."
    )
    return Section("confusion", title, note, parts=(Part(tuple(pictures)),))


def _faults(story: Story) -> Section:
    found = (tables.faults(story), tables.lost(story), tables.refused(story))
    shown = tuple(table for table in found if table)
    note = "" if shown else "No fault struck, no message was lost, none was refused."
    if story.adversaries and story.nodes <= timeline.ROWS:
        note += " The numbers of adversaries are bold."
    alt = f"Timeline of every node. {timeline.described(story)}."
    drawn = picture(partial(timeline.picture, story=story), WHOLE, alt)
    return Section("faults", "Nodes and faults", note, parts=(Part((drawn,)),), tables=shown)


def _network(story: Story) -> Section:
    pictures: list[Picture] = []
    edges = topology.edges(story)
    if edges.any():
        alt = f"{topology.title(story)}; nodes in the colour of their accuracy."
        drawn = picture(
            partial(topology.picture, story=story), HALF, alt, topology.title(story), topology.about(story)
        )
        pictures.append(drawn)
    if story.links.bytes.any():
        alt = f"Traffic from senders to receivers: {traffic.described(story)}."
        make = partial(traffic.picture, story=story)
        pictures.append(picture(make, HALF, alt, "Bytes from node to node", f"{traffic.described(story)}."))
    if not pictures:
        return Section("network", "Topology and traffic", "Nothing was sent.")
    return Section("network", "Topology and traffic", parts=(Part(tuple(pictures)),))


def _data(story: Story) -> Section:
    if not story.labels:
        return Section("data", "Data", "No node has started.")
    samples = [sum(row) for row in story.labels.values()]
    title = "Training samples of each class, by node"
    about = f"{sum(samples):,} in all, {min(samples):,} to {max(samples):,} a node."
    drawn = picture(partial(labels.picture, story=story), WHOLE, f"{title}: {about}", title, about)
    return Section("data", "Data", parts=(Part((drawn,)),))
