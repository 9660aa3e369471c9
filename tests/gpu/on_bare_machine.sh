#!/bin/bash
# Runs tests/gpu/check.py on a machine that has python3 with torch, nvcc and pytest, but no network: unpacks what was
# carried (.whl, .whl2: `make gpu-wheels`; .assets: the cache) and starts compiling nerfacc's kernels at once, beside
# everything else. Arguments go to check.py.
#
#   [MEANWHILE="COMMAND"] bash tests/gpu/on_bare_machine.sh --out DIR [--budget-s 420] [--only PART ...] \
#       [--train "COMMAND"]
#
# MEANWHILE is run while nerfacc compiles, before anything is timed.
set -u
cd "$(dirname "$0")/../.." || exit 1
ROOT=$PWD
PLACE=${POSEGEN_GPU_PLACE:-$ROOT/.gpu-check}
mkdir -p "$PLACE"
started=$SECONDS

for folder in .whl .whl2; do  # what an earlier call on the same machine brought is still there
  if [ -f "$folder/packages.tar.xz" ] && [ ! -f "$PLACE/unpacked$folder" ]; then
    python3 cluster/gpu_wheels.py unpack "$folder" --to "$PLACE/site" && touch "$PLACE/unpacked$folder" || exit 1
  fi
done
export PYTHONPATH=$ROOT/platform:$PLACE/site${PYTHONPATH:+:$PYTHONPATH}
[ -d .assets ] && mkdir -p "$PLACE/cache" && cp -rn .assets/. "$PLACE/cache/"
[ -d "$PLACE/cache" ] && export POSEGEN_CACHE=$PLACE/cache

NVCC=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
if [ -n "$NVCC" ]; then
  # nvcc may be a link or a script that calls another: its toolkit is where the headers are
  beside=$(dirname "$(dirname "$(readlink -f "$NVCC")")")
  for place in ${CUDA_HOME:-} "$beside" /usr/local/cuda; do
    [ -f "$place/include/cuda_runtime.h" ] && CUDA_HOME=$place && break
  done
  CUDA_HOME=${CUDA_HOME:-$beside}
  PATH=$CUDA_HOME/bin:$PATH
  export CUDA_HOME PATH
  # curand's headers are missing where the toolkit is nvcc alone; torch's own packages may have them.
  if [ ! -f "$CUDA_HOME/include/curand.h" ]; then
    found=$(python3 -c 'import glob, os, torch
site = os.path.dirname(os.path.dirname(torch.__file__))
print(next((os.path.dirname(p) for p in glob.glob(site + "/nvidia/*/include/curand.h")), ""))')
    [ -n "$found" ] && export CPATH=$found${CPATH:+:$CPATH}
  fi
fi
export TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-9.0} MAX_JOBS=${MAX_JOBS:-16}
export TORCH_EXTENSIONS_DIR=$PLACE/extensions
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null
echo "prepared in $((SECONDS - started)) s; nvcc: ${NVCC:-none}"
( time python3 -c 'from nerfacc.cuda._backend import _C; print("nerfacc compiled:", _C is not None)' ) \
  > "$PLACE/nerfacc.txt" 2>&1 &
compiling=$!
[ -n "${MEANWHILE:-}" ] && bash -c "$MEANWHILE"

python3 tests/gpu/check.py --wait-for-pid "$compiling" "$@"
state=$?
wait "$compiling"
tail -n 25 "$PLACE/nerfacc.txt"
exit $state
