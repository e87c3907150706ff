#!/usr/bin/env bash
# Everything that a machine with a GPU does in one go, without network, in under nine minutes.
#
# Usage: benchmarks/gpu.sh [--dry] OUT_FOLDER [PYTHON]
#   --dry   goes as far as it can without a GPU and says what it could not do
#   WHEELS  a folder of wheels to install for this run (pytest-benchmark, hypothesis, ...); nothing is downloaded
#
# Takes fastdet as it is built in this folder (fastdet/*.so, build/gpu/test_cuda_kernels) and builds what is missing.
# Leaves eight files in OUT_FOLDER: summary.txt (each step, its exit code and seconds), doctor.json, tests.txt,
# benchmarks.json, deployment.json, benchmarks.md with the tables of both, sanitizer.txt, training.txt. Ends with 0 only
# if all went well.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
dry=0
if [ "${1:-}" = --dry ]; then
    dry=1
    shift
fi
out=$(mkdir -p "${1:?output folder}" && cd "$1" && pwd)
python=${2:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH=$PWD PYTHONDONTWRITEBYTECODE=1
failed=0
deadline=$((SECONDS + 530))
: >"$out/summary.txt"

say() { echo "$*" | tee -a "$out/summary.txt"; }

# step NAME FILE LIMIT COMMAND...: the command's output goes to the file; no step outlives the deadline.
step() {
    local name=$1 file=$2 limit=$3 begin=$SECONDS code
    shift 3
    local left=$((deadline - SECONDS))
    if [ $left -lt 5 ]; then
        say "$name: not done, the time is up"
        failed=1
        return
    fi
    timeout $((limit < left ? limit : left)) "$@" >>"$file" 2>&1
    code=$?
    say "$name: exit code $code, $((SECONDS - begin)) s"
    [ "$file" = /dev/null ] || tail -n 4 "$file"
    [ $code -eq 0 ] || failed=1
    return $code
}

not_done() {
    say "$1: not done, $2"
    [ $dry -eq 1 ] || failed=1
}

for name in doctor.json tests.txt benchmarks.json benchmarks.md sanitizer.txt training.txt; do
    : >"$out/$name"
done

if [ -n "${WHEELS:-}" ]; then
    step "wheels" "$work/wheels.txt" 60 "$python" -m pip install -q --no-index --no-deps --target "$work/site" "$WHEELS"/*.whl
    export PYTHONPATH=$PWD:$work/site
fi

gpu=$("$python" -c 'import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else "")')
if [ -z "$gpu" ] && [ $dry -eq 0 ]; then
    say "torch sees no GPU here: run with --dry to try the script, or look at nvidia-smi"
    exit 3
fi
say "GPU: ${gpu:-none}; driver: $(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null || echo none)"

if ! "$python" -c 'import fastdet.ops, fastdet._ops_cuda, fastdet._C' 2>/dev/null; then
    FASTDET_CUDA=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} step "build" "$out/tests.txt" 200 \
        "$python" setup.py build_ext --inplace
fi
kernels=build/gpu/test_cuda_kernels
if [ ! -x $kernels ]; then
    if command -v cmake >/dev/null && command -v nvcc >/dev/null; then
        step "build of the kernels' test" "$out/sanitizer.txt" 120 bash -c \
            "cmake -S . -B build/gpu -DCMAKE_BUILD_TYPE=Release -DFASTDET_CUDA=ON &&
             cmake --build build/gpu -j $(nproc) --target test_cuda_kernels"
    else
        not_done "build of the kernels' test" "cmake or nvcc is missing"
    fi
fi

step "doctor" "$out/doctor.json" 60 "$python" -m fastdet.doctor --json

if [ $dry -eq 1 ]; then
    step "tests, collected only" "$out/tests.txt" 200 "$python" -m pytest tests/ops -m cuda --collect-only -q -p no:cacheprovider
    not_done "tests marked cuda" "no kernel was launched: dry run"
else
    step "tests marked cuda" "$out/tests.txt" 150 "$python" -m pytest tests -m cuda -q -p no:cacheprovider
fi

if [ -x $kernels ]; then
    if [ -z "$gpu" ]; then
        $kernels >>"$out/sanitizer.txt"
        say "kernels against their CPU twins: ended with $? where 77 means that there is no GPU"
    else
        step "kernels against their CPU twins" "$out/sanitizer.txt" 60 $kernels
    fi
else
    not_done "kernels against their CPU twins" "there is no $kernels"
fi

step "benchmarks" "$out/tests.txt" 170 "$python" -m pytest benchmarks --device cuda -q -p no:cacheprovider \
    --benchmark-json "$out/benchmarks.json" --benchmark-columns=min --benchmark-disable-gc
if [ -n "$gpu" ]; then
    "$python" -m fastdet.bench "$out/benchmarks.json" >"$out/benchmarks.md" && tail -n 4 "$out/benchmarks.md"
else
    not_done "table of ratios and roofline shares" "every benchmark was skipped without a GPU"
fi

if [ -n "$gpu" ]; then
    step "deployment beside torchvision" "$out/benchmarks.md" 100 "$python" -m fastdet.bench export \
        configs/coco/retinanet_r50_fpn_coco.py configs/coco/faster-rcnn_r50_fpn_coco.py \
        --batch 1 8 --seconds 1 --rows torchvision eager torch --output "$out/deployment.json"
else
    not_done "deployment beside torchvision" "there is no GPU"
fi

if ! command -v compute-sanitizer >/dev/null; then
    not_done "racecheck and memcheck" "compute-sanitizer is not on the PATH"
elif [ -z "$gpu" ]; then
    not_done "racecheck and memcheck" "there is no GPU"
else
    [ ! -x $kernels ] || step "racecheck of the kernels" "$out/sanitizer.txt" 60 \
        compute-sanitizer --tool racecheck --error-exitcode 9 $kernels
    [ ! -x $kernels ] || step "memcheck of the kernels" "$out/sanitizer.txt" 60 \
        compute-sanitizer --tool memcheck --error-exitcode 9 $kernels
    step "memcheck of tests" "$out/sanitizer.txt" 120 compute-sanitizer --tool memcheck --error-exitcode 9 \
        "$python" -m pytest tests/ops -m cuda -q -p no:cacheprovider -k "empty or odd or one or known"
fi

if [ -n "$gpu" ] && command -v compute-sanitizer >/dev/null; then
    step "racecheck of the plugins" "$out/sanitizer.txt" 60 compute-sanitizer --tool racecheck --error-exitcode 9 \
        "$python" -m pytest tests/deploy/test_plugins_on_gpu.py -m cuda -q -p no:cacheprovider -k "kernel"
fi

"$python" -m fastdet.data shapes "$work/data/shapes" >"$out/training.txt" 2>&1
if [ -n "$gpu" ]; then
    config=$PWD/configs/tiny/faster-rcnn_tiny_shapes.py
    cd "$work" && step "training" "$out/training.txt" 90 \
        "$python" -m fastdet.train "$config" --work-dir "$work/run" --device cuda
else
    not_done "training" "there is no GPU"
fi

[ $failed -eq 0 ] && say "all went well" || say "something failed or was not done"
exit $failed
