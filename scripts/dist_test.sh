#!/usr/bin/env bash
# Tests with several processes: dist_test.sh CONFIG CHECKPOINT NUM_PROCESSES [options of fastdet test]
# Environment: NNODES NODE_RANK MASTER_ADDR PORT for several machines; PYTHON picks the interpreter.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT NUM_PROCESSES [options of fastdet test]" >&2
    exit 2
fi
config=$1 checkpoint=$2 processes=$3
shift 3
export PYTHONPATH="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}" \
    --nproc-per-node "$processes" \
    -m fastdet.test "$config" "$checkpoint" --launcher pytorch "$@"
