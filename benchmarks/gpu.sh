#!/usr/bin/env bash
# What a machine with a GPU checks: tests marked `cuda`, the sanitizers, and a short training, without network.
# Usage: benchmarks/gpu.sh OUT_FOLDER [PYTHON]     fastdet must be built (pip install -e ., or the .so files in fastdet/)
# Leaves in OUT_FOLDER: doctor.json, cuda_tests.txt, memcheck.txt, training.txt. Ends with 0 only if all went well.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$(mkdir -p "${1:?output folder}" && cd "$1" && pwd)
python=${2:-python3}
export PYTHONPATH=$PWD
failed=0

step() {
    local name=$1 limit=$2
    shift 2
    echo "== $name"
    timeout "$limit" "$@" >"$out/$name" 2>&1
    local code=$?
    tail -n 5 "$out/$name"
    if [ $code -ne 0 ]; then
        echo "   exit code $code"
        failed=1
    fi
}

step doctor.json 60 "$python" -m fastdet.doctor --json
step cuda_tests.txt 240 "$python" -m pytest tests -m cuda -q -p no:cacheprovider
if command -v compute-sanitizer >/dev/null; then
    step memcheck.txt 180 compute-sanitizer --tool memcheck --error-exitcode 9 \
        "$python" -m pytest tests/ops -m cuda -q -p no:cacheprovider -k "empty or odd or one"
else
    echo "compute-sanitizer is not installed" >"$out/memcheck.txt"
fi
data=$(mktemp -d)
"$python" -m fastdet.data shapes "$data/data/shapes" >/dev/null
(cd "$data" && step training.txt 180 "$python" -m fastdet.train "$OLDPWD/configs/tiny/faster-rcnn_tiny_shapes.py" \
    --work-dir "$data/work" --device cuda && exit $failed) || failed=1
rm -rf "$data"
exit $failed
