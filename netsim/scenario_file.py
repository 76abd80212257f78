"""Scenario files: TOML to a Scenario and back, with errors that name the key and the line."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from netsim.config import (
    HOST_KEYS,
    AttackConfig,
    BaselinesConfig,
    DevicesConfig,
    FaultsConfig,
    LinksConfig,
    SimConfig,
    StopConfig,
    TopologyConfig,
)
from netsim.scenario import (
    Scenario,
    make_adversaries,
    make_events,
    make_groups,
    make_rules,
)
from netsim.units import quantities_as_text
from p2pfl.config import (
    DataConfig,
    EvaluationConfig,
    GossipConfig,
    TrainingConfig,
    build,
    flatten,
    keys,
)
from p2pfl.errors import ConfigError


def _names(*kinds: type[Any]) -> list[str]:
    return [key.name for kind in kinds for key in keys(kind)]


# Which keys stand in which section. "" is the top of the file.
SECTIONS: dict[str, list[str]] = {
    "": ["seed", "engine", *HOST_KEYS],
    "nodes": [
        "nodes",
        "signed",
        *(n for n in _names(DataConfig, TrainingConfig, GossipConfig) if n != "rounds"),
    ],
    "topology": _names(TopologyConfig),
    "links": _names(LinksConfig),
    "devices": _names(DevicesConfig),
    "faults": _names(FaultsConfig),
    "attack": _names(AttackConfig),
    "baselines": _names(BaselinesConfig),
    "evaluation": ["evaluate", *_names(EvaluationConfig)],
    "stop": ["rounds", *_names(StopConfig)],
}
# Where the flag's name would repeat the section's.
ALIASES = {
    ("nodes", "count"): "nodes",
    ("topology", "kind"): "topology",
    ("baselines", "methods"): "baselines",
    ("baselines", "rounds"): "baseline_rounds",
    ("baselines", "local-epochs"): "baseline_local_epochs",
    ("baselines", "local-steps"): "baseline_local_steps",
    ("attack", "kind"): "attack",
}
# Tables of which there may be several: (section, key) in the file, "" for the top; read in this order.
TABLES = {
    "groups": ("nodes", "group"),
    "rules": ("links", "rule"),
    "events": ("faults", "event"),
    "adversaries": ("", "adversaries"),
}
# In a file, the two ends of a link are "from" and "to", which Python reserves the first of.
_RULE_KEYS = {"from": "sender", "to": "receiver"}


def load(source: str | None, flags: Mapping[str, object]) -> Scenario:
    """The scenario of a file, or of a ready one by its name, with `flags` (underscores) over its keys.

    source None: flags alone. Raises ConfigError.
    """
    if source is None:
        return scenario_of(build(SimConfig, flags))
    name, text = _text(source)
    return parse(text, name, flags)


def parse(text: str, name: str, flags: Mapping[str, object] | None = None) -> Scenario:
    """name: of the file, put in front of errors. ConfigError names key and line."""
    flags = flags or {}
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not TOML: {error}") from error
    lines = _Lines(name, text)
    flat, tables = _split(document, lines)
    given = {flag.replace("-", "_") for flag in flags}
    kept = {key: value for key, (value, _, _) in flat.items() if key not in given}
    try:
        config = build(SimConfig, {**quantities_as_text(SimConfig, kept), **flags})
    except ConfigError as error:
        build(SimConfig, flags)  # raises its own error if the flags alone are wrong
        raise lines.blame(error, [(key, *flat[key][1:]) for key in kept]) from error
    return scenario_of(config, tables, lines)


def scenario_of(
    config: SimConfig,
    tables: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
    lines: _Lines | None = None,
) -> Scenario:
    """A scenario from checked scalars and raw tables. ConfigError, with lines if there is a file."""
    import numpy as np

    tables = tables or {}
    # A generator of its own for each kind of table: adding a group moves no fault.
    streams = np.random.SeedSequence((config.seed, _TABLE_WORD)).spawn(3)
    of_groups, of_events, of_adversaries = (np.random.default_rng(stream) for stream in streams)

    def each(kind: str) -> Iterator[Mapping[str, object]]:
        """The tables of one kind; what is wrong with one is said of its line."""
        for index, table in enumerate(tables.get(kind, ())):
            position[:] = [kind, index, table]
            yield table
        position.clear()

    position: list[Any] = []
    try:
        groups = make_groups(config, each("groups"), of_groups)
        rules = make_rules(config, groups, each("rules"))
        events = make_events(config, groups, each("events"), of_events)
        adversaries = make_adversaries(config, groups, each("adversaries"), of_adversaries)
    except ConfigError as error:
        if lines is None:
            raise
        if not position:  # of the section, or of the flags, that are in no table
            written_there = lines.has("attack", "kind")
            raise (lines.error(str(error), "attack", "kind") if written_there else error) from error
        kind, index, table = position
        section, key = TABLES[kind]
        header = f"{section}.{key}" if section else key
        written = {value: name for name, value in _RULE_KEYS.items()}
        candidates = [(key, f"{header}[{index}]", written.get(key, key)) for key in table]
        raise lines.blame(error, candidates, f"{header}[{index}]") from error
    return Scenario(config, groups, rules, events, adversaries, tables)


_TABLE_WORD = 0x7AB1E5  # keeps these streams apart from all others of the seed


def _split(
    document: Mapping[str, Any], lines: _Lines
) -> tuple[dict[str, tuple[object, str, str]], dict[str, list[dict[str, object]]]]:
    """A document -> flat keys with (value, section, key as written), and the raw tables by kind."""
    flat: dict[str, tuple[object, str, str]] = {}
    tables: dict[str, list[dict[str, object]]] = {}
    arrays = {place: kind for kind, place in TABLES.items()}
    top = {key: value for key, value in document.items() if key not in SECTIONS or key == ""}
    sections = {"": top} | {key: value for key, value in document.items() if key in SECTIONS}
    for section, content in sections.items():
        if not isinstance(content, dict):
            raise lines.error(f"{section} is a section: write [{section}] and its keys below", "", section)
        for written, value in content.items():
            if (kind := arrays.get((section, written))) is not None:
                tables[kind] = _table_list(value, section, written, lines)
                continue
            name = ALIASES.get((section, written), written.replace("-", "_"))
            if name not in SECTIONS[section]:
                raise lines.error(_unknown(section, written, name, value), section, written)
            if name in flat:
                raise lines.error(f"{written!r} is given twice", section, written)
            flat[name] = (value, section, written)
    return flat, tables


def _table_list(value: object, section: str, key: str, lines: _Lines) -> list[dict[str, object]]:
    header = f"{section}.{key}" if section else key
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise lines.error(f"{header} is a list of tables: write [[{header}]]", section, key)
    if header != "links.rule":
        return value
    return [{_RULE_KEYS.get(name, name): item for name, item in table.items()} for table in value]


def _unknown(section: str, written: str, name: str, value: object) -> str:
    place = f"[{section}]" if section else "the top of the file"
    for other, names in SECTIONS.items():
        if name in names:
            where = f"[{other}]" if other else "the top of the file, before any section"
            return f"{written!r} belongs in {where}, not in {place}"
    if isinstance(value, dict) and not section:
        near = difflib.get_close_matches(written, [key for key in SECTIONS if key], n=1)
        hint = f"; did you mean [{near[0]}]?" if near else f"; there are {', '.join(filter(None, SECTIONS))}"
        return f"unknown section [{written}]{hint}"
    known = [key.replace("_", "-") for key in SECTIONS[section]]
    known += [key for (home, key) in ALIASES if home == section]
    near = difflib.get_close_matches(written, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown key {written!r} in {place}{hint}"


class _Lines:
    """Where in a file each key stands: tomllib does not tell."""

    _HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.-]+)\s*\]\]?\s*(#.*)?$")
    _KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*=""")

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._at: dict[tuple[str, str], int] = {}
        section, counts = "", {}  # type: tuple[str, dict[str, int]]
        for number, line in enumerate(text.splitlines(), 1):
            if (header := self._HEADER.match(line)) is not None:
                section = header[2]
                if header[1] == "[[":
                    counts[section] = counts.get(section, -1) + 1
                    section = f"{section}[{counts[section]}]"
                self._at.setdefault((section, ""), number)
            elif (key := self._KEY.match(line)) is not None:
                self._at.setdefault((section, key[1]), number)

    def has(self, section: str, key: str) -> bool:
        return (section, key) in self._at

    def error(self, message: str, section: str, key: str) -> ConfigError:
        number = self._at.get((section, key)) or self._at.get((key, "")) or self._at.get((f"{key}[0]", ""))
        number = number or self._at.get((section, ""))
        return ConfigError(
            f"{self._name}, line {number}: {message}" if number else f"{self._name}: {message}"
        )

    def blame(
        self, error: ConfigError, candidates: Sequence[tuple[str, str, str]], section: str = ""
    ) -> ConfigError:
        """The same error with the line of the key that its message names.

        candidates: (key, section, key as written).  section: what to fall back on.
        """
        message = str(error)
        found = []
        for key, place, written in candidates:
            for name in {key.replace("_", "-"), key, written}:
                match = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", message)
                if match is not None:
                    found.append((match.start(), -len(name), place, written))
        if found:
            _, _, place, written = min(found)
            return self.error(message, place, written)
        return self.error(message, section, "")


# -- ready scenarios, and the copy kept with a run


def ready() -> dict[str, str]:
    """Name -> description (its first comment line) of the scenarios that come with the program."""
    found = {}
    for name, path in _files():
        first, *_ = path.read_text(encoding="utf-8").splitlines() or [""]
        found[name] = first.lstrip("# ").strip()
    return dict(sorted(found.items(), key=lambda item: ("/" in item[0], item[0])))


def ready_text(name: str) -> str:
    """The file of a ready scenario. ConfigError for an unknown name."""
    if name not in ready():
        near = difflib.get_close_matches(name, ready(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ready())}"
        raise ConfigError(f"there is no ready scenario {name!r}; {hint}")
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")  # type: ignore[no-any-return]


def _folder() -> Any:
    return resources.files("netsim") / "scenarios"


def _files() -> Iterator[tuple[str, Any]]:
    """Those of the folder, and of folders in it as "folder/name"."""
    for path in _folder().iterdir():
        if path.is_dir():
            for inner in path.iterdir():
                if inner.name.endswith(".toml"):
                    yield f"{path.name}/{inner.name.removesuffix('.toml')}", inner
        elif path.name.endswith(".toml"):
            yield path.name.removesuffix(".toml"), path


def _text(source: str) -> tuple[str, str]:
    """A file's name and text; a bare name is a ready scenario's, unless such a file is there."""
    path = Path(source)
    if not path.exists() and path.suffix == "" and (path.name == source or source in ready()):
        return f"scenario {source}", ready_text(source)
    try:
        return source, path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the scenario {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the scenario {source} is not UTF-8 text") from error


def to_toml(scenario: Scenario) -> str:
    """The effective scenario as a file that load() reads again, without what concerns only the host."""
    import tomli_w

    flat = flatten(scenario.config)
    document: dict[str, Any] = {}
    written = {(section, name): key for (section, key), name in ALIASES.items()}
    for section, names in SECTIONS.items():
        content = document if not section else document.setdefault(section, {})
        for name in names:
            dashed = name.replace("_", "-")
            if dashed in flat and name not in HOST_KEYS and flat[dashed] != []:
                content[written.get((section, name), dashed)] = flat[dashed]
    back = {value: key for key, value in _RULE_KEYS.items()}
    for kind, (section, key) in TABLES.items():
        rows = [dict(row) for row in scenario.tables.get(kind, ())]
        if kind == "rules":
            rows = [{back.get(name, name): value for name, value in row.items()} for row in rows]
        if rows:
            (document.setdefault(section, {}) if section else document)[key] = rows
    return tomli_w.dumps({key: value for key, value in document.items() if value != {}})
