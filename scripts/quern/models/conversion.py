"""From a folder of safetensors to a GGUF, by llama.cpp's own converter.

It runs in the Python of its own environment (`envs/`), in this process, so that it ends with it.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .. import QuernError, files
from ..command import reason
from . import converter, safetensors
from . import folder as folders
from .compared import differences

log = logging.getLogger("quern.models")

# The type that most weights have; others than these are widened to BF16.
_TYPES = {"F32": "F32", "F64": "F32", "F16": "F16"}


def convert(folder: Path, output: Path) -> dict:
    """Convert a model; matrices in BF16, F16 and F32 keep their types.

    Returns:
        The type of most weights, the number of weights of each type that there were, notes on what
        the user should know, and the output's bytes and SHA-256.

    Raises:
        QuernError: there is no converter, it refuses the model, or a file of the folder is missing,
            damaged, or a pointer.
        OSError: something cannot be written.
    """
    safetensors.files_in(folder)
    tensors = safetensors.tensors(folder)
    counts = safetensors.weights_by_type(tensors)
    if not counts:
        raise QuernError(f"the safetensors of {folder} hold no matrix.")
    with _understood(folder):
        tied = folders.tied_output(folder, tensors)
        plan = converter.Conversion(
            kind=_TYPES.get(next(iter(counts)), "BF16"),
            templates=folders.templates(folder),
            left_out=tied[0] if tied else "",
            drafting=folders.has_drafting(folder, tensors),
        )
    log.info("%s becomes %s; weights by type: %s", folder, plan.kind, counts)
    with files.replacing(output) as temporary:
        _run(folder.resolve(), temporary, plan)
        with _understood(folder):
            notes = [*_notes(folder, tensors, tied), *differences(folder, tensors, temporary)]
    for note in notes:
        log.warning("%s", note)
    found = {"bytes": output.stat().st_size, "sha256": files.sha256(output)}
    kind = plan.kind.lower()
    return {"type": kind, "weights": counts, "notes": notes, "files": {output.name: found}}


@contextlib.contextmanager
def _understood(folder: Path) -> Iterator[None]:
    """Within it, JSON of a folder that has another form is refused."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise QuernError(
            f"the JSON files of {folder} have another form than transformers writes ({error!r}); "
            "fetch it anew."
        ) from None


def _notes(folder: Path, tensors: dict, tied: tuple[str, str] | None):
    """What of a folder is not in its model, a sentence each."""
    if safetensors.is_adapted(os.listdir(folder)):
        yield (
            f"an adapter lies in {folder} beside the weights; it is not merged into them (peft's "
            "merge_and_unload does that)."
        )
    for name in safetensors.left_out(folder):
        yield f"{folder / name} is not read, since the folder's index does not name it."
    if tied and not folders.are_equal(*(tensors[name] for name in tied)):
        yield (
            f"{folder} saves {tied[0]} with other weights than {tied[1]} and ties the two in "
            "config.json; as in transformers, the embedding is both."
        )


def _run(folder: Path, output: Path, plan: converter.Conversion) -> None:
    """Run the converter; it has no network and no token."""
    if not converter.SCRIPT.is_file():
        raise QuernError(
            f"{sys.prefix} has no converter; make one with envs/converter.sh FOLDER, and run "
            "this with FOLDER/bin/python."
        )
    os.environ.update(HF_HUB_OFFLINE="1")
    os.environ.pop("HF_TOKEN", None)
    if not sys.stderr.isatty():
        os.environ.update(TQDM_DISABLE="1")
    _listen()
    try:
        converter.write(folder, output, plan)
    except OSError as error:
        if error.errno and error.filename in (None, str(output)):
            raise
        raise _refused(folder, error) from None
    except Exception as error:  # the converter raises many kinds
        raise _refused(folder, error) from None


def _listen() -> None:
    """Let the log take what the converter says."""
    own, all_others = logging.getLogger("quern"), logging.getLogger()
    own.propagate = False
    for handler in own.handlers:
        all_others.addHandler(handler)
    all_others.setLevel(logging.INFO)


def _refused(folder: Path, error: Exception) -> QuernError:
    log.info("llama.cpp's converter ended so:", exc_info=error)
    kind = type(error).__name__
    return QuernError(f"{folder} cannot be converted: {kind}: {reason(error)}; see the log.")
