"""Does every family of detectors learn? Overfits one stock config of each, and counts what each cost in code.

    python -m benchmarks.families CONFIGS [--only NAME ...]   # trains, adds lines to benchmarks/results/families.jsonl
    python -m benchmarks.families --table benchmarks/results/families.jsonl                    # prints the table

CONFIGS is MMDetection 3.3.0's `mmdet/.mim/configs`. Seconds are CPU time of one process.
"""

import argparse
import contextlib
import io
import json
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastdet.tools.overfit import main as overfit

ROOT = Path(__file__).resolve().parent.parent


class Family(NamedTuple):
    """A family: the config that is trained, how, and the files that exist for it alone."""

    config: str
    options: str = ""
    files: str = ""


DENSE = "--thin 4 --shapes 2"
FEW = " model.train_cfg.rpn_proposal.nms_pre=500 model.test_cfg.rpn.nms_pre=500"
RCNN = f"{DENSE} --cfg-options{FEW} model.train_cfg.rcnn.sampler.num=64"
CASCADE = f"{DENSE} --cfg-options{FEW}" + "".join(f" model.train_cfg.rcnn.{i}.sampler.num=64" for i in range(3))

FAMILIES: dict[str, Family] = {
    "RPN": Family("rpn/rpn_r50_fpn_1x_coco.py", DENSE, "models/heads/rpn.py"),
    "Fast R-CNN": Family(
        "fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py", f"{DENSE} --cfg-options model.train_cfg.rcnn.sampler.num=64",
        "models/detectors/fast_rcnn.py data/proposals.py"
    ),
    "Faster R-CNN": Family("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", RCNN, "models/detectors/two_stage.py"),
    "Mask R-CNN": Family(
        "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", RCNN, "models/heads/fcn_mask.py ops/paste_masks.py"
    ),
    "Cascade R-CNN": Family(
        "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py", CASCADE,
        "models/heads/cascade_roi.py models/stages/cascade.py",
    ),
    "Cascade Mask R-CNN": Family("cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py", CASCADE),
    "C4": Family(
        "faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py", f"--lr 0.0005 {RCNN} model.test_cfg.rpn.max_per_img=100",
        "models/heads/res_layer.py",
    ),
    "DC5": Family("faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py", RCNN),
    "RetinaNet": Family("retinanet/retinanet_r50_fpn_1x_coco.py", DENSE, "models/heads/retina.py"),
    "SSD300": Family(
        "ssd/ssd300_coco.py", "--thin 4 --shapes 2 --size 300",
        "models/backbones/ssd_vgg.py models/necks/ssd_neck.py models/heads/ssd.py models/priors/ssd.py "
        "models/criteria/hard_negative.py compat/models/dense_ssd.py data/transforms/ssd.py",
    ),
    "SSD512": Family("ssd/ssd512_coco.py", "--thin 4 --shapes 1 --size 512"),
    "SSDLite": Family("ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py", "--shapes 2 --size 320"),
    "YOLOX": Family(
        "yolox/yolox_nano_8xb8-300e_coco.py", "--shapes 2 --lr 0.003 --iterations 400",
        "models/necks/yolox_pafpn.py models/heads/yolox.py models/coders/cell.py models/assigners/sim_ota.py "
        "models/criteria/objectness.py models/postprocess/best_class.py models/batch_resize.py "
        "compat/models/dense_yolox.py",
    ),
    "FCOS": Family("fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py", DENSE, "models/assigners/regress_range.py"),
    "ATSS": Family("atss/atss_r50_fpn_1x_coco.py", DENSE, "models/assigners/atss.py"),
    "GFL": Family(
        "gfl/gfl_r50_fpn_1x_coco.py", DENSE, "models/criteria/distribution.py models/losses/generalized_focal.py"
    ),
    "Double-Head": Family(
        "double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py", RCNN, "models/heads/double_bbox.py"
    ),
    "HTC without semantic": Family("htc/htc-without-semantic_r50_fpn_1x_coco.py", CASCADE),
    "HTC": Family(
        "htc/htc_r50_fpn_1x_coco.py", CASCADE, "models/heads/fused_semantic.py models/criteria/semantic.py"
    ),
    "RepPoints": Family(
        "reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco.py", DENSE,
        "models/heads/reppoints.py models/assigners/point.py models/criteria/refined.py",
    ),
    "Guided Anchoring RPN": Family(
        "guided_anchoring/ga-rpn_r50_fpn_1x_coco.py", DENSE,
        "models/heads/guided_anchor.py models/stages/guided.py models/criteria/guide.py compat/models/guided.py",
    ),
    "Guided Anchoring Faster": Family("guided_anchoring/ga-faster-rcnn_r50_fpn_1x_coco.py", RCNN),
    "Guided Anchoring RetinaNet": Family("guided_anchoring/ga-retinanet_r50_fpn_1x_coco.py", DENSE),
    "GHM": Family("ghm/retinanet_r50_fpn_ghm-1x_coco.py", DENSE, "models/losses/harmonised.py"),
    "Libra R-CNN (BFP)": Family(
        "libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py", RCNN,
        "models/necks/bfp.py models/losses/balanced_l1.py models/samplers/balanced.py",
    ),
    "Libra RetinaNet": Family("libra_rcnn/libra-retinanet_r50_fpn_1x_coco.py", DENSE),
    "legacy_1.x Faster": Family("legacy_1.x/faster-rcnn_r50_fpn_1x_coco_v1.py", RCNN, "models/coders/legacy.py"),
    "legacy_1.x RetinaNet": Family("legacy_1.x/retinanet_r50_fpn_1x_coco_v1.py", DENSE),
    "PAFPN": Family("pafpn/faster-rcnn_r50_pafpn_1x_coco.py", RCNN, "models/necks/pafpn.py"),
    "NAS-FPN": Family(
        "nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py", DENSE,
        "models/necks/nas_fpn.py models/heads/retina_sepbn.py",
    ),
    "HRNet, HRFPN": Family(
        "hrnet/faster-rcnn_hrnetv2p-w18-1x_coco.py", RCNN, "models/backbones/hrnet.py models/necks/hrfpn.py"
    ),
    "ResNeXt": Family("faster_rcnn/faster-rcnn_x101-32x4d_fpn_1x_coco.py", RCNN + " model.backbone.depth=50"),
    "RegNet": Family("regnet/faster-rcnn_regnetx-400MF_fpn_ms-3x_coco.py", RCNN, "models/backbones/regnet.py"),
    "Res2Net": Family(
        "res2net/faster-rcnn_res2net-101_fpn_2x_coco.py", RCNN + " model.backbone.depth=50",
        "models/backbones/res2net.py",
    ),
    "ResNeSt": Family(
        "resnest/faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco.py", RCNN, "models/backbones/resnest.py"
    ),
    "MobileNetV2": Family(
        "yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py", "--shapes 2", "models/backbones/mobilenet_v2.py"
    ),
    "Swin": Family(
        "swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py", DENSE,
        "models/backbones/swin.py models/layers/window_attention.py",
    ),
    "PVT": Family("pvt/retinanet_pvt-t_fpn_1x_coco.py", DENSE, "models/backbones/pvt.py"),
    "PVTv2": Family("pvt/retinanet_pvtv2-b0_fpn_1x_coco.py", "--thin 2 --shapes 2"),
    "DCN": Family("dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py", RCNN, "models/layers/deform_conv.py"),
    "DCNv2": Family("dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py", RCNN),
    "GCB": Family("gcnet/mask-rcnn_r50-gcb-r4-c3-c5_fpn_1x_coco.py", RCNN, "models/layers/context.py"),
    "GCB, SyncBN": Family("gcnet/mask-rcnn_r50-syncbn-gcb-r16-c3-c5_fpn_1x_coco.py", RCNN),
    "Generalized attention": Family(
        "empirical_attention/faster-rcnn_r50-attn1111_fpn_1x_coco.py", RCNN, "models/layers/generalized_attention.py"
    ),
    "GN": Family("gn/mask-rcnn_r50_fpn_gn-all_2x_coco.py", RCNN),
    "GN+WS": Family("gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py", RCNN, "models/layers/standardised_conv.py"),
    "Soft-NMS": Family("faster_rcnn/faster-rcnn_r50_fpn_soft-nms_1x_coco.py", RCNN),
    "OHEM": Family("faster_rcnn/faster-rcnn_r50_fpn_ohem_1x_coco.py", RCNN, "models/samplers/ohem.py"),
    "VFNet": Family(
        "vfnet/vfnet_r50_fpn_1x_coco.py", DENSE,
        "models/heads/vfnet.py models/criteria/varifocal.py models/losses/varifocal.py",
    ),
    "TOOD": Family(
        "tood/tood_r50_fpn_1x_coco.py", DENSE,
        "models/heads/tood.py models/assigners/task_aligned.py models/criteria/task_aligned.py "
        "compat/models/dense_tood.py",
    ),
    "PAA": Family(
        "paa/paa_r50_fpn_1x_coco.py", DENSE,
        "models/criteria/mixture.py models/criteria/probabilistic.py models/postprocess/voting.py",
    ),
    "FoveaBox": Family(
        "foveabox/fovea_r50_fpn_4xb4-1x_coco.py", DENSE,
        "models/heads/fovea.py models/assigners/fovea.py models/criteria/plain.py models/coders/exponential.py "
        "compat/models/dense_fovea.py",
    ),
    "FreeAnchor": Family(
        "free_anchor/freeanchor_r50_fpn_1x_coco.py", DENSE, "models/criteria/bags.py models/assigners/nothing.py"
    ),
    "YOLOv3 (Darknet)": Family(
        "yolo/yolov3_d53_8xb8-320-273e_coco.py", DENSE,
        "models/backbones/darknet.py models/necks/yolo_neck.py models/heads/yolov3.py models/priors/sized.py "
        "models/assigners/grid.py models/coders/in_cell.py models/criteria/cells.py models/postprocess/cells.py "
        "models/losses/mse.py compat/models/dense_yolov3.py",
    ),
    "Mask Scoring": Family(
        "ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py", RCNN, "models/heads/mask_iou.py models/criteria/mask_iou.py"
    ),
    "SABL Faster": Family(
        "sabl/sabl-faster-rcnn_r50_fpn_1x_coco.py", RCNN,
        "models/heads/sabl.py models/coders/bucketing.py models/criteria/bucket.py compat/models/sabl.py",
    ),
    "SABL RetinaNet": Family("sabl/sabl-retinanet_r50_fpn_1x_coco.py", DENSE),
    "Seesaw": Family(
        "seesaw_loss/mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1.py", RCNN,
        "models/losses/seesaw.py models/layers/normed.py",
    ),
    "Grid R-CNN": Family(
        "grid_rcnn/grid-rcnn_r50_fpn_gn-head_1x_coco.py", RCNN,
        "models/heads/grid.py models/stages/grid.py models/criteria/grid.py",
    ),
    "Dynamic R-CNN": Family("dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py", RCNN, "models/stages/dynamic.py"),
    "GRoIE": Family("groie/faste-rcnn_r50_fpn_groie_1x_coco.py", RCNN, "models/extractors/generic.py"),
    "CARAFE": Family(
        "carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py", RCNN, "models/layers/carafe.py models/necks/fpn_carafe.py"
    ),
    "DetectoRS": Family(
        "detectors/detectors_cascade-rcnn_r50_1x_coco.py", CASCADE,
        "models/necks/rfp.py models/layers/switchable_conv.py",
    ),
    "Trident": Family(
        "tridentnet/tridentnet_r50-caffe_1x_coco.py", RCNN, "models/backbones/trident.py compat/models/trident.py"
    ),
}  # fmt: skip

COVERAGE_COLUMNS = 3
LAST_LINE = re.compile(r"^(?P<figures>.+) after (?P<iterations>\d+) iterations, \d+ s")


def train(configs: Path, names: Sequence[str], out: Path) -> None:
    """Trains the families of these names (none: all that the file has not), and adds a line for each."""
    done = {record["family"] for record in read(out)}
    for name in names or [name for name in FAMILIES if name not in done]:
        family = FAMILIES[name]
        text = io.StringIO()
        began = time.process_time()
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(text),
            contextlib.redirect_stderr(text),
        ):
            given = ["--every", "15", "--work-dir", folder, *family.options.split()]
            try:
                code = overfit([str(configs / family.config), *given])
            except Exception:  # one family's fault must not keep the others from being tried
                code = -1
                print(traceback.format_exc())
        seconds = time.process_time() - began
        lines = text.getvalue().splitlines()
        found = LAST_LINE.match(lines[-1])
        record = {
            "family": name, "config": family.config, "options": family.options, "code": code,
            "figures": found["figures"] if found else text.getvalue()[-1500:],
            "iterations": int(found["iterations"]) if found else 0, "seconds": round(seconds, 1),
        }  # fmt: skip
        print(json.dumps(record), flush=True)
        if code:
            print("\n".join(lines[-12:]), flush=True)
        with open(out, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def read(path: Path) -> list[Mapping[str, Any]]:
    """The records of a file, the newest of each family, in the order of `FAMILIES`."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    newest = {record["family"]: record for record in map(json.loads, lines)}
    return [newest[name] for name in FAMILIES if name in newest]


def count_lines(files: str) -> int:
    """Lines of code that are not blank."""
    return sum(
        bool(line.strip()) for file in files.split() for line in (ROOT / "fastdet" / file).read_text().splitlines()
    )


def table(path: Path) -> str:
    """The records as a Markdown table, with what the documents and the tests have of each family."""
    coverage = {
        cells[0]: ", ".join(cells[1:])
        for cells in (
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in (ROOT / "docs/coverage.md").read_text(encoding="utf-8").splitlines()
        )
        if len(cells) == COVERAGE_COLUMNS and "/" in cells[1]
    }
    parity = [file.stem.partition("__")[0] for file in (ROOT / "tests/golden").rglob("*__*.json")]
    rows = [
        "| family | (a) configs with equal weights, 3.3.0, 2.28.2 | (b) parity records | (c) overfit: config | result "
        "| iterations | s | own lines |",
        "|---|---|---:|---|---|---:|---:|---:|",
    ]
    records = {record["family"]: record for record in read(path)}
    for name, family in FAMILIES.items():
        folder, _, config = family.config.partition("/")
        lines, record = count_lines(family.files), records.get(name)
        if record is None:
            result = "not run | | "
        else:
            result = f"{record['figures']} | {record['iterations']} | {record['seconds']:.0f}"
        rows.append(
            f"| {name} | {coverage.get(folder, '')} | {parity.count(folder) or ''} | `{config[:-3]}` | {result} | "
            f"{lines or ''} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Trains, or prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("configs", nargs="?", type=Path, metavar="CONFIGS")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these families, again if need be")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/families.jsonl")
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    if options.table:
        print(table(options.table))
    elif options.configs:
        train(options.configs, options.only, options.out)
    else:
        parser.error("CONFIGS or --table")


if __name__ == "__main__":
    sys.exit(main())
