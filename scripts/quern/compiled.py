"""What compiled loops share: numba's options, bit casts, and when a compiled loop is stale.

numba keeps a compiled loop beside its source file and judges it by that file alone, not by what the
loop calls in other files. Here it is judged by all local sources that it can reach.
"""

import functools
from pathlib import Path

import numba
from llvmlite import ir
from numba import types
from numba.core import caching
from numba.extending import intrinsic

from . import fingerprint

# Options of `njit`, by what the compiler may do: nothing; fuse a product and a sum; take it besides
# that there is no NaN; or that sums may be reordered; all of it.
EXACT = {"cache": True, "nogil": True, "error_model": "numpy"}
STRICT = EXACT | {"fastmath": {"contract"}}
NO_NAN = EXACT | {"fastmath": {"contract", "nnan"}}
REORDERED = EXACT | {"fastmath": {"contract", "reassoc"}}
FAST = EXACT | {"fastmath": True}

_SCRIPTS = Path(__file__).parent.parent


class _ByReach:
    """Judges a loop by the sources that its file imports, and those that they import."""

    def get_source_stamp(self):
        return self._reach() or super().get_source_stamp()

    def get_disambiguator(self):
        # The compiled file's name has the hash in it. numba unpickles a file before it compares
        # stamps, and fails if the file names an argument's class that the source no longer has.
        reach = self._reach()
        if reach:
            _drop_stale(Path(self.get_cache_path()), Path(self._py_file).stem, reach)
        return "-".join(filter(None, [super().get_disambiguator(), reach]))

    def _reach(self):
        """A hash of those sources; None for a file that is not ours."""
        path = Path(self._py_file)
        return fingerprint.code(path, _SCRIPTS) if _SCRIPTS in path.parents else None


class Provided(_ByReach, caching.UserProvidedCacheLocator):
    """In the folder NUMBA_CACHE_DIR, where it is set."""


class InTree(_ByReach, caching.InTreeCacheLocator):
    """Beside the source."""


class UserWide(_ByReach, caching.UserWideCacheLocator):
    """In the user's folder, where the source's cannot be written."""


@functools.cache
def _drop_stale(folder: Path, module: str, reach: str) -> None:
    """Delete what was compiled from other sources. numba copes with a file that is gone."""
    for path in folder.glob(f"{module}.*.nb[ic]"):
        if reach not in path.name:
            path.unlink(missing_ok=True)


numba.config.CACHE_LOCATOR_CLASSES = ",".join(
    f"{__name__}.{kind.__name__}" for kind in (Provided, InTree, UserWide)
)


@intrinsic
def bits_to_float(typing, x):
    """The float32 that has these bits, int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def float_to_bits(typing, x):
    """The bits of a float32, int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate
