"""Records of measurements: figures, of which file, by which protocol; and several as a table.

A record says all that another needs to put a figure beside it, or not to.
"""

from pathlib import Path

import pandas as pd

from .. import QuernError, __version__, files, forms
from ..gguf_files import ModelInfo
from ..markdown import escaped

KIND, FORMAT = "quern records", 1
NAME = "record.json"
SHOWN = ("kld_mean", "kld_median", "kld_p90", "kld_p99", "score", "ppl_ratio", "same_top")
_IN_MARKDOWN = ("by", "model", "recipe", "bytes", *SHOWN)
_REMEDY = "leave it out, or ask who made it"
_PROTOCOL = {
    "baseline_sha256": forms.SHA256,
    "n_ctx": forms.COUNT,
    "scored": {"type": "array", "minItems": 2, "maxItems": 2, "items": forms.COUNT_OR_NONE},
    "windows": forms.COUNT,
    "tokens_sha256": forms.SHA256,
    "tokenizer_sha256": forms.TEXT,  # empty of llama-perplexity's stores
    "n_vocab": forms.COUNT,
}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_KINDS = {"same_top": _SHARE, "ppl_ratio": forms.POSITIVE}
_FIGURES = {
    name: forms.record(**dict.fromkeys(("value", "low", "high"), _KINDS.get(name, forms.NUMBER)))
    for name in SHOWN
}
# A record as others may have written it.
_RECORD = forms.record(
    model=forms.TEXT,
    recipe=forms.TEXT,
    type=forms.TEXT,
    imatrix=forms.TEXT,
    rounding=forms.TEXT,
    by={"type": ["string", "null"]},
    file=forms.record(sha256=forms.SHA256, bytes=forms.COUNT, bits_per_weight=forms.POSITIVE),
    corpus=forms.TEXT,
    text_sha256=forms.TEXT,
    protocol=forms.record(**_PROTOCOL),
    positions=forms.COUNT,
    figures=forms.record(**_FIGURES),
    noise=forms.record(figures={"type": "object", "additionalProperties": forms.NOT_NEGATIVE}),
    versions=forms.record(
        quern=forms.TEXT, computed_by=forms.TEXT, baseline_computed_by=forms.TEXT
    ),
)
_FILE = forms.record(records={"type": "array", "items": _RECORD})


def record(
    model: str,
    labels: dict,
    info: ModelInfo,
    result: dict,
    protocol: dict,
    *,
    corpus: str,
    by: str | None = None,
) -> dict:
    """The record of one comparison.

    Args:
        model: its name.
        labels: of the recipe: name, type, imatrix, rounding.
        info: of the quantized model.
        result: the comparison's JSON.
        protocol: as `measure.protocol` gives it.
        corpus: the name of the text.
        by: who measured.
    """
    facts = result["provenance"]
    return {
        "model": model,
        "recipe": labels["name"],
        "type": labels["type"],
        "imatrix": labels["imatrix"],
        "rounding": labels["rounding"],
        "by": by,
        "file": {
            "sha256": info.sha256,
            "bytes": info.file_bytes,
            "bits_per_weight": info.bits_per_weight,
        },
        "corpus": corpus,
        "text_sha256": facts["text_sha256"],
        "protocol": {"baseline_sha256": facts["baseline_sha256"]} | protocol,
        "positions": result["positions"],
        "figures": result["figures"],
        "noise": result["noise"],
        "versions": {
            "quern": __version__,
            "computed_by": facts["computed_by"],
            "baseline_computed_by": facts["baseline_computed_by"],
        },
    }


def write(path: Path, records: list[dict]) -> None:
    """Write records as one file (JSON, with a hash of its content)."""
    files.write_json(path, {"kind": KIND, "format": FORMAT, "records": records})


def read(paths: list[Path], corpus: str | None = None) -> list[tuple[Path, dict]]:
    """The records of files and of all `record.json` in folders, each once, with its file.

    Args:
        corpus: only those of a text with this name.

    Raises:
        QuernError: there are none, or a file is missing, was changed, or holds no such records.
    """
    found: list[tuple[Path, dict]] = []
    for path in paths:
        inside = sorted(path.rglob(NAME)) if path.is_dir() else [path]
        for file in inside:
            content = files.read_json(file)
            if (content.get("kind"), content.get("format")) != (KIND, FORMAT):
                raise QuernError(f"{file} holds no records that this version of Quern reads.")
            forms.require(file, content, _FILE, _REMEDY)
            for own in content["records"]:
                _require_ordered(file, own)
            known = [own for _, own in found]
            found += [(file, own) for own in content["records"] if own not in known]
    kept = [(file, own) for file, own in found if corpus in (None, own["corpus"])]
    if not kept:
        of = f" of the text {corpus}" if corpus else ""
        raise QuernError(f"there are no records{of} in {', '.join(map(str, paths))}.")
    return kept


def _require_ordered(file: Path, own: dict) -> None:
    for name in SHOWN:
        if not own["figures"][name]["low"] <= own["figures"][name]["high"]:
            said = f"{own['recipe']}: {name}: its interval ends before it begins"
            raise forms.impossible(file, said, _REMEDY)


def require_one_protocol(found: list[tuple[Path, dict]]) -> None:
    """Refuse records whose figures do not mean the same.

    Each is held against the first by all keys that either has, so all are alike.

    Raises:
        QuernError: the sentence names two files, and what differs.
    """
    first_file, first = found[0]
    for file, own in found[1:]:
        expected = first["protocol"]
        keys = expected | own["protocol"]
        differs = [key for key in keys if own["protocol"].get(key) != expected.get(key)]
        if differs:
            said = ", ".join(
                f"{key} {_short(own['protocol'].get(key))} and {_short(expected.get(key))}"
                for key in differs
            )
            raise QuernError(
                f"{own['recipe']} on {own['corpus']} ({file}) was not measured as "
                f"{first['recipe']} on {first['corpus']} ({first_file}): {said}; such figures "
                "cannot stand in one table. Leave one of them out, or name one text by --corpus."
            )


def _short(value) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) > 16 else str(value)


def table(found: list[tuple[Path, dict]]) -> pd.DataFrame:
    """One row a record, by falling size: whose, what, its `SHOWN` figures with their intervals."""
    rows = []
    for _, own in found:
        row = {key: own[key] for key in ("by", "model", "recipe", "imatrix", "rounding")}
        row |= {"bytes": own["file"]["bytes"], "bpw": own["file"]["bits_per_weight"]}
        for name in SHOWN:
            figure = own["figures"][name]
            row |= {name: figure["value"]}
            row |= {f"{name}_{end}": figure[end] for end in ("low", "high")}
            row[f"{name}_noise"] = own["noise"]["figures"].get(name)
        rows.append(row | {"sha256": own["file"]["sha256"]} | own["versions"])
    return pd.DataFrame(rows).sort_values(["bytes", "recipe"], ascending=[False, True])


def markdown(found: list[tuple[Path, dict]]) -> str:
    """The table as GitHub Markdown, with the protocol below it."""
    frame, protocol = table(found), found[0][1]["protocol"]
    shown = frame[list(_IN_MARKDOWN)].copy()
    for name in ("by", "model", "recipe"):
        shown[name] = shown[name].fillna("").astype(str).map(escaped)
    shown["bytes"] = shown.bytes.map("{:,}".format)
    for name in SHOWN:
        shown[name] = [
            f"{v:.5f} ({low:.5f} – {high:.5f})"
            for v, low, high in zip(
                *(frame[c] for c in (name, f"{name}_low", f"{name}_high")), strict=True
            )
        ]
    align = ["left"] * 3 + ["right"] * (len(shown.columns) - 3)
    body = shown.to_markdown(index=False, disable_numparse=True, colalign=align)
    facts = "".join(f"- {escaped(f'{key}: {value}')}\n" for key, value in protocol.items())
    return f"{body}\n\nKLD and score in nats, with 95 % intervals. All by one protocol:\n\n{facts}"
