"""How good detections are: COCO and VOC metrics, and the files that detections are written to."""

from fastdet.evaluation.coco import CocoMetric
from fastdet.evaluation.lvis import LVISMetric
from fastdet.evaluation.metric import Metric
from fastdet.evaluation.openimages import OpenImagesMetric
from fastdet.evaluation.result_files import load_results, save_results
from fastdet.evaluation.voc import VOCMetric
from fastdet.registry import METRICS

__all__ = ["CocoMetric", "LVISMetric", "Metric", "OpenImagesMetric", "VOCMetric", "load_results", "save_results"]

METRICS.refuse(
    "CityScapesMetric",
    "use CocoMetric while training, and Cityscapes' own scripts on the masks that `fastdet test` writes",
)
