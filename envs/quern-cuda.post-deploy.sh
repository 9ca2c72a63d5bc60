#!/usr/bin/env bash
# Snakemake runs this in the new environment: llama.cpp, built for CUDA. The machine needs no GPU.
# CUDAARCHS=90 builds for one kind of GPU alone and is faster (here: compute capability 9.0).
set -euo pipefail
export CMAKE_ARGS="-DLLAVA_BUILD=OFF -DGGML_CUDA=on -DCMAKE_CUDA_COMPILER=$CONDA_PREFIX/bin/nvcc"
python -m pip install --no-input --no-deps --no-cache-dir llama_cpp_python==0.3.36
