"""The experiments by name: those of the thesis, and further ablations."""

from dataclasses import replace

from mnemask.errors import InputError
from mnemask.evaluation.tables import GAIN
from mnemask.experiments import thesis
from mnemask.experiments.figures import Curves, Line, Strips
from mnemask.experiments.plan import COSTS, GROUPS, SCORES, SHORT, Experiment, Run
from mnemask.experiments.rows import object_rows, run_rows
from mnemask.experiments.thesis import EVERY_5, FIRST_AND_LATEST, LFU, SOFTMAX
from mnemask.memory.policies import DEFAULT_POLICY, POLICIES

STRATEGIES = (EVERY_5, FIRST_AND_LATEST, LFU)
DEFAULT = Run(DEFAULT_POLICY, DEFAULT_POLICY, frames=2)
BUDGETS = (1, 2, 4, 8)
SHARES = (0.0, 0.07, 0.1, 0.15, 0.2, 0.25, 0.4)

CAPACITIES = (
    Line("LFU (thesis)", tuple((f"{frames}", replace(LFU, frames=frames)) for frames in (*BUDGETS, 16))),
    Line(
        f"{DEFAULT_POLICY} (default)",
        tuple((f"{frames}", replace(DEFAULT, frames=frames)) for frames in (*BUDGETS, 16)),
    ),
)
METRICS = (
    replace(LFU, label="negative L2"),
    replace(LFU, label="dot product", metric="dot"),
    replace(LFU, label="cosine", metric="cosine"),
)
TOP_K = Line(
    "LFU (thesis), 2 frames",
    (
        *((f"{k}", replace(LFU, label=f"k = {k}", top_k=k)) for k in (5, 10, 20, 50)),
        ("all", replace(LFU, label="k = all", top_k=None)),
    ),
)
KERNELS = tuple(
    Line(
        f"{name}, 2 frames",
        tuple(
            (f"{kmn_sigma:g}", replace(run, label=f"{name}, {kmn_sigma:g}", kmn_sigma=kmn_sigma))
            for kmn_sigma in SHARES
        ),
    )
    for name, run in (("LFU (thesis)", LFU), (DEFAULT_POLICY, DEFAULT))
)
INTERVALS = Line(
    "LFU (thesis), 2 frames",
    tuple((f"{every}", replace(LFU, label=f"each {every}", write_every=every)) for every in (1, 2, 5, 10, 25)),
)
PROTECTION = tuple(
    Run(f"{name}, first frame {'protected' if pin else 'not protected'}", policy, frames=frames, pin=pin)
    for name, policy in (("LFU", "lfu-pinned"), ("softmax mass", "attention-mass"), ("FIFO", "fifo"))
    for frames in (2, 4)
    for pin in (False, True)
)

_ALL = (
    Experiment(
        "strategies",
        "Three memory strategies: scores, recall, decay",
        STRATEGIES,
        run_rows,
        (*SCORES, *GAIN, *GROUPS),
        baseline=FIRST_AND_LATEST,
        reference=thesis.TABLES_1_AND_2,
        remarks=thesis.STRATEGY_REMARKS,
        also=("table1", "table2"),
    ),
    Experiment(
        "speed",
        "Three memory strategies: speed and memory",
        STRATEGIES,
        run_rows,
        COSTS,
        reference=thesis.TABLE_3,
        also=("table3",),
    ),
    Experiment(
        "index",
        "Usage in LFU: top-k count or softmax mass",
        (LFU, SOFTMAX, replace(LFU, frames=4), replace(SOFTMAX, frames=4)),
        run_rows,
        ("J&F-Mean", "J&F-Low", "J&F-High", *GAIN, "J-Mean", "F-Mean", *GROUPS),
        baseline=LFU,
        reference=thesis.TABLE_4,
        remarks=thesis.INDEX_REMARKS,
        also=("table4",),
    ),
    Experiment(
        "per-sequence",
        "LFU at 2 frames, object by object",
        (LFU,),
        object_rows,
        ("J-Mean", "F-Mean", *GROUPS),
        reference=thesis.TABLES_1_AND_2,
        remarks=thesis.PER_OBJECT_REMARKS,
        also=("table7", "table8", "tables7-8"),
    ),
    Experiment(
        "strips",
        "The strategies' masks in the frames in which they differ most",
        (*STRATEGIES, DEFAULT),
        run_rows,
        reference=thesis.TABLES_1_AND_2,
        picture=Strips((*STRATEGIES, DEFAULT)),
        also=("fig9",),
    ),
    Experiment(
        "index-strips",
        "The masks of both usage indices in the frames in which they differ most",
        (LFU, SOFTMAX),
        run_rows,
        baseline=LFU,
        reference=thesis.TABLE_4,
        remarks=thesis.INDEX_REMARKS,
        picture=Strips((LFU, SOFTMAX)),
        also=("fig10",),
    ),
    Experiment(
        "capacity",
        "How many frames' worth of tokens are enough",
        (EVERY_5, FIRST_AND_LATEST, *(run for line in CAPACITIES for _, run in line.points)),
        run_rows,
        (*SHORT, "G-Mean"),
        baseline=EVERY_5,
        reference=thesis.TABLES_1_AND_2,
        remarks=thesis.CAPACITY_REMARKS,
        picture=Curves("memory, in frames' worth of tokens", CAPACITIES, (EVERY_5, FIRST_AND_LATEST)),
        also=("fig11",),
    ),
    Experiment(
        "affinity",
        "Affinity of queries and memory keys",
        METRICS,
        run_rows,
        baseline=METRICS[0],
    ),
    Experiment(
        "top-k",
        "How many tokens a query reads",
        tuple(run for _, run in TOP_K.points),
        run_rows,
        baseline=replace(LFU, label="k = 20"),
        picture=Curves("k, tokens read per query", (TOP_K,)),
    ),
    Experiment(
        "kmn-sigma",
        "σ of the KMN kernel",
        tuple(run for line in KERNELS for _, run in line.points),
        run_rows,
        baseline=replace(LFU, label="LFU (thesis), 0", kmn_sigma=0.0),
        picture=Curves("σ of the KMN kernel, as a fraction of the short side", KERNELS),
    ),
    Experiment(
        "write-interval",
        "How often a frame is written to memory",
        tuple(run for _, run in INTERVALS.points),
        run_rows,
        baseline=replace(LFU, label="each 5", write_every=5),
        picture=Curves("frames from one write to the next", (INTERVALS,)),
    ),
    Experiment(
        "protection",
        "Whether the first frame may be evicted",
        PROTECTION,
        run_rows,
        baseline=PROTECTION[0],
    ),
    Experiment(
        "policies",
        "Every policy at 1, 2, 4 and 8 frames",
        (EVERY_5, *(Run(name, name, frames=frames) for name in POLICIES for frames in BUDGETS)),
        run_rows,
        budgets=BUDGETS,
        baseline=Run("lfu", "lfu", frames=2),
    ),
)
EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}


def experiment_named(name: str) -> Experiment:
    """Returns an experiment by its name, or its number in the thesis, such as table1; raises InputError if unknown."""
    for experiment in _ALL:
        if name in (experiment.name, *experiment.also):
            return experiment
    known = ", ".join("/".join((experiment.name, *experiment.also)) for experiment in _ALL)
    raise InputError(f"there is no experiment {name!r}", f"choose one of {known}")
