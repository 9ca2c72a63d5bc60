#!/usr/bin/env bash
# Make .venv with everything that a requirements file pins, and show that llama.cpp is being built.
# usage: envs/install.sh REQUIREMENTS
set -euo pipefail
requirements=$1
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "Quern needs Python 3.11 or newer; set PYTHON to one." >&2; exit 1; }
[ -x .venv/bin/python ] || "$python" -m venv .venv

# The multimodal part of llama.cpp is not needed. CMAKE_ARGS chooses a GPU backend, see README.md.
export CMAKE_ARGS="-DLLAVA_BUILD=OFF ${CMAKE_ARGS:-}"

log=.venv/install.log
echo "Installing $requirements into .venv; llama.cpp is compiled, which takes some minutes (log: $log)"
SECONDS=0
.venv/bin/python -m pip install --verbose --no-input -r "$requirements" 2>&1 | tee "$log" |
    while IFS= read -r line; do
        if [[ $line =~ ^\ *\[([0-9]+/[0-9]+)\] ]]; then
            printf '\r  building llama.cpp: step %s, %d s ' "${BASH_REMATCH[1]}" "$SECONDS"
        elif [[ $line =~ ^Collecting\ (.+) ]]; then
            printf '\r  fetching %-60.60s' "${BASH_REMATCH[1]}"
        elif [[ $line =~ ^ERROR ]]; then
            printf '\n%s\n' "$line"
        fi
    done
printf '\rInstalled in %d s.%60s\n' "$SECONDS" ""
