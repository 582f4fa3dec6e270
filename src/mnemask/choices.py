"""The names that the command line offers, available without importing PyTorch or the objects that they name."""

from typing import Final

# The keys of POLICIES, ENGINES, MASK_FORMATS (mask formats, then video formats, then "table") and EXPORT_FORMATS;
# tests/test_choices.py compares them.
POLICY_NAMES: Final = (
    "diverse",
    "lfu-pinned",
    "lfu",
    "keep-all",
    "first-and-latest",
    "fifo",
    "lru",
    "random",
    "attention-mass",
    "afb",
    "prototypes",
    "rmem",
    "readmem",
    "with-latest",
    "per-object",
)
DEFAULT_POLICY: Final = "diverse"
SMALLEST_SIZE: Final = 32  # of --size, pixels
ENGINE_NAMES: Final = ("eager", "compile", "int8", "int8-all")
MASK_FORMAT_NAMES: Final = ("png", "ffv1", "rgba", "rle", "parquet")
VIDEO_FORMAT_NAMES: Final = ("overlay", "prores", "webm", "matte", "green")
EXPORT_FORMAT_NAMES: Final = (
    "coco",
    "coco-polygons",
    "cvat",
    "cvat-masks",
    "cvat-video",
    "davis",
    "label-studio",
    "labelme",
    "mot",
    "mots",
    "npz",
    "table",
    "yolo",
    "youtube-vos",
    "zarr",
)
PRECISION_NAMES: Final = ("auto", "float32", "bfloat16", "float16")
DATASETS: Final = ("davis2016", "davis2017", "youtube-vos", "long-video", "folder")
USUAL_VIDEO_SUFFIXES: Final = (
    *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts", ".mxf", ".wmv", ".ogv"),
)
VIDEO_SUFFIXES: Final = (
    *USUAL_VIDEO_SUFFIXES,
    *(".3g2", ".3gp", ".asf", ".divx", ".dv", ".f4v", ".flv", ".m1v", ".m2v", ".mod", ".mp4v", ".mpe", ".mpv", ".nut"),
    *(".ogm", ".qt", ".rm", ".rmvb", ".tod", ".vob", ".wtv", ".y4m"),
)
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
