"""From a folder of safetensors to a GGUF, by llama.cpp's own converter.

It runs in the Python of its own environment (`envs/`), in this process, so that it ends with it.
"""

import logging
import os
import runpy
import sys
from pathlib import Path

from .. import QuernError, files
from ..command import reason
from . import safetensors

log = logging.getLogger("quern.models")

CONVERTER = Path(sys.prefix, "share/llama.cpp/convert_hf_to_gguf.py")
# The converter's name of the type that keeps the weights; others are widened to BF16 by it.
_TYPES = {"F32": "f32", "F64": "f32", "F16": "f16"}


def convert(folder: Path, output: Path) -> dict:
    """Convert a model; BF16, F16 and F32 stay what most of its weights are.

    Returns:
        The type, the number of weights of each type that there were, and the output's bytes and
        SHA-256.

    Raises:
        QuernError: there is no converter, or it refuses the model.
        OSError: something cannot be written.
    """
    safetensors.files_of((path.name for path in folder.iterdir()), folder)
    counts = safetensors.weights_by_type(folder)
    if not counts:
        raise QuernError(f"the safetensors of {folder} hold no matrix.")
    kind = _TYPES.get(next(iter(counts)), "bf16")
    log.info("%s becomes %s; weights by type: %s", folder, kind, counts)
    with files.replacing(output) as temporary:
        _run([str(folder.resolve()), "--outfile", str(temporary), "--outtype", kind], folder)
    found = {"bytes": output.stat().st_size, "sha256": files.sha256(output)}
    return {"type": kind, "weights": counts, "files": {output.name: found}}


def _run(arguments: list[str], folder: Path) -> None:
    """Run the converter as if by hand; it has no network and no token."""
    if not CONVERTER.is_file():
        raise QuernError(
            f"{sys.prefix} has no converter; make one with envs/converter.sh FOLDER, and run "
            "this with FOLDER/bin/python."
        )
    os.environ.update(HF_HUB_OFFLINE="1")
    os.environ.pop("HF_TOKEN", None)
    if not sys.stderr.isatty():
        os.environ.update(TQDM_DISABLE="1")
    said, own = _listen(), sys.argv
    sys.argv, sys.path[0] = [str(CONVERTER), *arguments], str(CONVERTER.parent)
    try:
        runpy.run_path(str(CONVERTER), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise QuernError(f"{folder} cannot be converted: {said.last or end.code}.") from None
    except OSError as error:
        if error.errno and error.filename in (None, arguments[2]):
            raise
        raise _refused(folder, error) from None
    except Exception as error:  # the converter raises many kinds
        raise _refused(folder, error) from None
    finally:
        sys.argv = own


def _listen() -> "_Errors":
    """Let the log take what the converter says, and keep its last error."""
    own, all_others, said = logging.getLogger("quern"), logging.getLogger(), _Errors()
    own.propagate = False
    for handler in (*own.handlers, said):
        all_others.addHandler(handler)
    all_others.setLevel(logging.INFO)
    return said


def _refused(folder: Path, error: Exception) -> QuernError:
    log.info("llama.cpp's converter ended so:", exc_info=error)
    kind = type(error).__name__
    return QuernError(f"{folder} cannot be converted: {kind}: {reason(error)}; see the log.")


class _Errors(logging.Handler):
    """Keeps the last error that the converter logged."""

    last = ""

    def __init__(self):
        super().__init__(logging.ERROR)

    def emit(self, record):
        self.last = record.getMessage()
