#!/usr/bin/env bash
# From a fresh clone to a trained detector and a report: venv, install, build, data, training, test, pictures.
# Usage: ./quickstart.sh [--install-only]      PYTHON=... picks the interpreter, VENV=... the folder of the venv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
venv=${VENV:-.venv}
work=work_dirs/quickstart

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python python3.13 python3.11 \
        python3.10 python3; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python >= 3.10 with the venv module was found; install one or set PYTHON=/path/to/python" >&2
    exit 3
}

say() { printf '\n[%s/5] %-13s%s\n' "$1" "$2" "$3"; }

install() {
    if [ ! -x "$venv/bin/python" ]; then
        "$(find_python)" -m venv "$venv"
    fi
    "$venv/bin/python" -m pip install --quiet --upgrade pip
    "$venv/bin/python" -m pip install --quiet -r requirements.txt
    say 2 build "C++ kernels, and CUDA kernels where nvcc is found"
    "$venv/bin/python" -m pip install --quiet --no-build-isolation -e ".[test]"
}

say 1 environment "virtual environment in $venv (the first time: several GB of torch)"
install
if [ "${1:-}" = "--install-only" ]; then
    exit 0
fi
python=$venv/bin/python
config=configs/tiny/faster-rcnn_tiny_shapes.py
"$python" -m fastdet.doctor
rm -rf "$work"
say 3 data "the generated set of shapes"
"$python" -m fastdet.data shapes data/shapes
"$python" -m fastdet.data check "$config"
say 4 train "$config"
"$python" -m fastdet.train "$config" --work-dir "$work"
say 5 report "test, pictures, report"
best=$(ls "$work"/best_*.pth)
"$python" -m fastdet.test "$config" "$best" --work-dir "$work" --report "$work/report.html"
"$python" -m fastdet.predict data/shapes/val "$config" "$best" --out-dir "$work/predictions" --score-thr 0.5
printf '\nreport:    %s\npictures:  %s\nnext:      %s -m fastdet.predict photo.jpg %s %s\n' \
    "$work/report.html" "$work/predictions/vis" "$python" "$config" "$best"
