#!/usr/bin/env bash
# Trains with several processes: dist_train.sh CONFIG NUM_PROCESSES [options of fastdet train]
# Environment: NNODES NODE_RANK MASTER_ADDR PORT for several machines; PYTHON picks the interpreter.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG NUM_PROCESSES [options of fastdet train]" >&2
    exit 2
fi
config=$1 processes=$2
shift 2
export PYTHONPATH="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" \
    --nproc-per-node "$processes" \
    -m fastdet.train "$config" --launcher pytorch "$@"
