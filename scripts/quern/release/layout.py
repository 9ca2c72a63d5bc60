"""What goes into a release, and where."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from gguf import LlamaFileType

from .. import QuernError, files
from ..command import option
from ..gguf_files import ModelInfo, field, open_gguf
from ..measure import summaries
from ..measure.protocol import protocol
from ..memory import stored
from ..quantize import type_files
from ..sizes import Size
from ..speed import figures
from . import card, folder, names, parts, records

log = logging.getLogger("quern.release")
PER_BUDGET, ALL = "per budget", "all"


@dataclass(frozen=True)
class ReleaseSettings:
    """What the user says of a release.

    Attributes:
        split: a size as `Size.parse` reads it, or `none` for whole files.
    """

    name: str | None = option("what files' names begin with; from the metadata if not given", None)
    base_model: str | None = option("OWNER/NAME of the unquantized model, for the card", None)
    quantized_by: str | None = option("your name, for the card and the record", None)
    license: str | None = option("license; the model's own if not given", None)
    split: str = option("larger files are cut into parts of at most this; none leaves all", "45GB")

    @property
    def part_bytes(self) -> int | None:
        """Bytes of a part, at most; None for whole files."""
        if self.split == "none":
            return None
        return Size.parse_bytes(self.split)


@dataclass(frozen=True)
class Results:
    """Where a model's results lie, and which of them a release takes in.

    Attributes:
        folder: `results/MODEL`.
        title: the model's name.
        corpora: the texts that were measured on.
        imatrices: those that were collected, by name.
        imatrix_files: those that are somebody else's, by name: `file`, its name, and `sha256`.
        memory, speed, pages: whether these were made.
    """

    folder: Path
    title: str
    corpora: list[str]
    imatrices: list[str]
    imatrix_files: dict[str, dict[str, str]]
    memory: bool = False
    speed: bool = False
    pages: bool = False

    def model(self, name: str) -> Path:
        """A quantized model; its description lies beside it."""
        return self.folder / f"quantize/{name}.gguf"

    def info(self, name: str) -> Path:
        """Its description (JSON)."""
        return self.folder / f"quantize/{name}.json"

    def comparison(self, name: str, corpus: str, ending: str = "json") -> Path:
        """A comparison of it."""
        return self.folder / f"compare/{name}/{corpus}.{ending}"

    def compared(self, name: str, corpus: str) -> dict:
        """The summary of a comparison of it.

        Raises:
            QuernError: it is missing, damaged, or of another model.
        """
        return summaries.read(
            self.comparison(name, corpus),
            self.comparison(name, corpus, "h5"),
            quantized_sha256=ModelInfo.read(self.info(name)).sha256,
        )


def choose(results: Results, recipes: list[dict], chosen: list[str]) -> list[dict]:
    """The recipes that are released, of those that there are.

    Args:
        recipes: of each its name, and `foreign` where somebody else made it: such are left out.
        chosen: names; or `per budget` alone, for those that the report answers with; or `all`.

    Raises:
        QuernError: a name is unknown, foreign, or of a recipe that failed; nothing is left.
    """
    known = {recipe["name"] for recipe in recipes}
    own = {r["name"]: r for r in recipes if not r.get("foreign")}
    failed = {name: files.failure(results.info(name)) for name in own}
    if chosen not in ([PER_BUDGET], [ALL]):
        for name in chosen:
            if name not in known:
                raise QuernError(f"release: there is no recipe {name}.")
            if name not in own:
                raise QuernError(
                    f"release: {name} was made by somebody else; name recipes of your own."
                )
            if failed[name]:
                raise QuernError(f"release: {name} could not be made: {failed[name]}")
        return [own[name] for name in dict.fromkeys(chosen)]
    wanted = own.keys()
    if chosen == [PER_BUDGET]:
        wanted = {b["own"] for corpus in results.corpora for b in answers(results, corpus)}
    found = [recipe for name, recipe in own.items() if name in wanted and not failed[name]]
    for name in own.keys() & wanted:
        if failed[name]:
            log.warning("%s is left out: %s", name, failed[name])
    if not found:
        raise QuernError(
            f"release: there is no recipe to release of {results.title} ({chosen[0]}); name some "
            "under `release: recipes:`."
        )
    return found


def answers(results: Results, corpus: str) -> list[dict]:
    """What the report says to ship for each budget of memory."""
    return files.read_json(results.folder / f"report/{corpus}.json")["budgets"]


def lay_out(
    results: Results,
    recipes: list[dict],
    chosen: list[str],
    settings: ReleaseSettings,
    output: Path,
) -> str:
    """Make the folder `output`, whole or not at all.

    Args:
        recipes: of each its name, type, imatrix, rounding, and `foreign`.
        chosen: as for `choose`.

    Returns:
        What its files' names begin with.

    Raises:
        QuernError: as `choose`, `names.stem`, `names.encodings` and `parts.release`; or a model is
            not the one that was measured.
    """
    split = settings.part_bytes
    released = choose(results, recipes, chosen)
    reader = open_gguf(results.model(released[0]["name"]))
    stem = names.stem(reader, settings.name)
    encodings = names.encodings({r["name"]: r["type"] for r in released})
    with folder.replacing(output) as place:
        rows, speed = [], _speed(results, released)
        for recipe in released:
            target = place / f"{stem}-{encodings[recipe['name']]}.gguf"
            written = parts.release(results.model(recipe["name"]), target, split)
            rows.append(_row(results, recipe, [path.name for path in written], speed))
        rows.sort(key=lambda row: (-row.bytes, row.labels["name"]))
        imatrices = _imatrices(results, rows, place)
        pages = _pages(results, place)
        _maps(results, rows, place)
        sums = folder.hashes(place)
        _require_measured(results, rows, sums)
        entries = _records(results, rows, settings, sums)
        records.write(place / records.NAME, [entry for own in entries.values() for entry in own])
        front = card.front_matter(
            reader,
            base_model=settings.base_model,
            quantized_by=settings.quantized_by,
            license=settings.license,
            tags=("imatrix",) if imatrices else (),
        )
        if "base_model" not in front:
            log.warning("the card names no base model; give `release: base_model:` (OWNER/NAME).")
        content = _content(results, rows, entries, speed)
        content["title"] = card.title(reader, results.title)
        text = card.render(front, name=stem, imatrices=imatrices, pages=pages, **content)
        (place / "README.md").write_text(text, encoding="utf-8")
        folder.write_sums(place, folder.hashes(place, sums))
    return stem


def _row(results: Results, labels: dict, written: list[str], speed: dict) -> card.Row:
    name = labels["name"]
    info, reader = ModelInfo.read(results.info(name)), open_gguf(results.model(name))
    memory = {}
    if results.memory:
        memory = stored.read(results.folder / f"memory/{name}.json", info.sha256)
    return card.Row(
        labels=labels,
        bytes=info.file_bytes,
        bits_per_weight=info.bits_per_weight,
        files=written,
        figures={corpus: results.compared(name, corpus)["figures"] for corpus in results.corpora},
        base=_called(field(reader, "general.file_type", -1), labels["type"]),
        memory=next(iter(memory.get("contexts", [])), None),
        speed={s["test"]: s for s in _timed(speed) if s["recipe"] == name},
        by_stock=labels["rounding"] == "ggml",
    )


def _called(number: int, otherwise: str) -> str:
    """How llama-quantize names what a file says that it is."""
    try:
        return LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return otherwise


def _timed(speed: dict) -> list[dict]:
    """The speeds at depth 0; none where the machine was busy."""
    if not speed or figures.was_busy(speed):
        return []
    return [entry for entry in speed["results"] if not entry["depth"]]


def _speed(results: Results, released: list[dict]) -> dict:
    """What speed.py wrote; empty where nothing was timed."""
    if not results.speed:
        return {}
    sums = {r["name"]: ModelInfo.read(results.info(r["name"])).sha256 for r in released}
    return figures.read(results.folder / "speed.json", sums)


def _machine(speed: dict) -> str:
    """What the speeds were measured on."""
    machine = speed.get("machine", {})
    return ", ".join([*machine.get("gpus", []), machine.get("cpu", "")]).strip(", ")


def _imatrices(results: Results, rows: list[card.Row], place: Path) -> dict[str, dict]:
    """Put the imatrices that were collected into the release: of each its file, tokens, hash."""
    used, found = {row.labels["imatrix"] for row in rows}, {}
    for name in results.imatrices:
        if name not in used:
            continue
        source = results.folder / f"imatrix/{name}.gguf"
        target = place / f"imatrix/{name}.gguf"
        target.parent.mkdir(exist_ok=True)
        parts.link(source, target)
        shutil.copyfile(source.with_suffix(".json"), target.with_suffix(".json"))
        found[name] = {
            "file": f"imatrix/{name}.gguf",
            "tokens": files.read_json(source.with_suffix(".json"))["tokens"],
            "sha256": files.sha256(target),
        }
    return found


def _pages(results: Results, place: Path) -> list[str]:
    """Put the report's pages into the release."""
    names = [f"report/{corpus}/index.html" for corpus in results.corpora if results.pages]
    for name in names:
        (place / name).parent.mkdir(parents=True)
        (place / name).write_bytes(files.read_summed(results.folder / name))
    return names


def _maps(results: Results, rows: list[card.Row], place: Path) -> None:
    """Write the type of each tensor, for llama-quantize."""
    (place / "recipes").mkdir()
    for row in rows:
        made = files.read_json(results.info(row.labels["name"]))["made"]
        types = {n: t["got"] for n, t in made["tensors"].items() if t["got"] != "F32"}
        (place / f"recipes/{row.labels['name']}.txt").write_text(
            type_files.text(types), encoding="utf-8"
        )


def _require_measured(results: Results, rows: list[card.Row], sums: dict[str, str]) -> None:
    """Refuse models that are not those that their descriptions, and comparisons, speak of."""
    for row in rows:
        source = results.model(row.labels["name"])
        expected = ModelInfo.read(results.info(row.labels["name"])).sha256
        # A file that was cut, or whose metadata were changed, has another hash than its source.
        if sums[row.files[0]] != expected != files.sha256(source):
            raise QuernError(f"{source} is not what was measured; delete it and run again.")


def _records(
    results: Results, rows: list[card.Row], settings: ReleaseSettings, sums: dict[str, str]
) -> dict[str, list[dict]]:
    """The records of each text, a recipe each, with the files that the release has of it."""
    found = {}
    for corpus in results.corpora:
        found[corpus] = []
        for row in rows:
            name = row.labels["name"]
            own = records.record(
                results.title,
                row.labels,
                ModelInfo.read(results.info(name)),
                results.compared(name, corpus),
                protocol(
                    results.folder / f"baseline/{corpus}.h5",
                    results.comparison(name, corpus, "h5"),
                ),
                corpus=corpus,
                by=settings.quantized_by,
            )
            own["file"]["released"] = {part: sums[part] for part in row.files}
            found[corpus].append(own)
    return found


def _content(
    results: Results, rows: list[card.Row], entries: dict[str, list[dict]], speed: dict
) -> dict:
    """What the card's template names besides."""
    every = [own for own_corpus in entries.values() for own in own_corpus]
    used = {row.labels["imatrix"] for row in rows}
    texts = []
    for corpus, own in entries.items():
        sources = results.compared(own[0]["recipe"], corpus)["sources"]
        # Where comparisons end early, recipes differ in their windows; the longest one is told of.
        longest = max(own, key=lambda entry: entry["positions"])
        texts.append(longest | {"name": corpus, "sources": list(sources)})
    return {
        "rows": rows,
        "texts": texts,
        "machine": _machine(speed),
        "load": figures.load_text(speed) if speed else "",
        "tests": list(dict.fromkeys(s["test"] for s in _timed(speed))),
        "memory_at": next((row.memory for row in rows if row.memory), None),
        "budgets": answers(results, results.corpora[0]) if results.pages else [],
        "file_of": {row.labels["name"]: row.files[0] for row in rows},
        "is_split": any(len(row.files) > 1 for row in rows),
        "baseline_sha256": every[0]["protocol"]["baseline_sha256"],
        "computed_by": sorted({own["versions"]["computed_by"] for own in every}),
        "others": {n: d for n, d in results.imatrix_files.items() if n in used},
    }
