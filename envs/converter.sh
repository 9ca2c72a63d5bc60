#!/usr/bin/env bash
# Make the environment of llama.cpp's converter where conda does not; it takes 1.2 GB and minutes.
# usage: envs/converter.sh FOLDER
set -euo pipefail
folder=$1
house=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

python -m venv --clear "$folder"
folder=$(cd "$folder" && pwd)
export PATH="$folder/bin:$PATH"
python -m pip install --no-input -r "$house/requirements-convert.txt"
CONDA_PREFIX=$folder bash "$house/envs/convert.post-deploy.sh"
