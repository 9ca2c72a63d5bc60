#!/usr/bin/env bash
# Snakemake runs this in the new environment: the converter of the llama.cpp that Quern uses, out of
# llama_cpp_python's source, into share/llama.cpp. Nothing is compiled.
set -euo pipefail
version=0.3.36
target=$CONDA_PREFIX/share/llama.cpp

source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
python -m pip download --no-input --no-deps --no-binary :all: --no-build-isolation \
    --dest "$source" "llama_cpp_python==$version"
mkdir -p "$target"
llama=llama_cpp_python-$version/vendor/llama.cpp
tar -xzf "$source/llama_cpp_python-$version.tar.gz" -C "$target" --strip-components 3 \
    "$llama"/{convert_hf_to_gguf.py,conversion,gguf-py,models/templates,LICENSE}
