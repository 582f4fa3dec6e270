"""The numbers of the thesis (Pourganjalikhan 2021) that experiments print next to their own, and its misprints."""

from collections.abc import Iterable

from mnemask.evaluation.tables import Row
from mnemask.experiments.plan import Reference, Run

EVERY_5 = Run("every-5", "keep-all")
FIRST_AND_LATEST = Run("first-and-latest", "first-and-latest")
LFU = Run("LFU (thesis)", "lfu", frames=2)
SOFTMAX = Run("softmax mass", "attention-mass", frames=2)

WHOLE_SETS = {"davis2016": 20, "davis2017": 30, "youtube-vos": 507}
"""Number of sequences in each data set of the thesis."""

KEY_DEPTH, SIZE, GPU = 50, 480, "GTX 1070"


def _row(columns: str, percent: str) -> Row:
    return {name: float(value) / 100 for name, value in zip(columns.split(), percent.split(), strict=True)}


_DAVIS = "J-Mean J-Recall J-Decay F-Mean F-Recall F-Decay J&F-Mean"
_YOUTUBE_VOS = "J-seen J-unseen F-seen F-unseen G-Mean"

TABLES_1_AND_2: Reference = {
    "davis2016": {
        EVERY_5: _row(_DAVIS, "90.4 98.1 4.1 93.0 97.1 4.3 91.7"),
        FIRST_AND_LATEST: _row(_DAVIS, "88.0 95.3 8.3 91.0 94.4 8.4 89.5"),
        LFU: _row(_DAVIS, "89.5 97.6 6.1 92.3 96.8 5.8 90.9"),
    },
    "davis2017": {
        EVERY_5: _row(_DAVIS, "82.0 91.3 6.2 88.6 94.6 8.6 85.3"),
        FIRST_AND_LATEST: _row(_DAVIS, "79.5 90.4 10.8 85.4 92.9 14.0 82.5"),
        LFU: _row(_DAVIS, "81.3 90.4 8.1 87.4 92.9 10.7 84.4"),
    },
    "youtube-vos": {
        EVERY_5: _row(_YOUTUBE_VOS, "82.6 79.3 86.9 87.6 84.1"),
        FIRST_AND_LATEST: _row(_YOUTUBE_VOS, "79.9 75.1 83.9 83.2 80.5"),
        LFU: _row(_YOUTUBE_VOS, "80.3 76.1 84.3 83.8 81.1"),
    },
}

TABLE_3: Reference = {
    "davis2017": {
        EVERY_5: {"frames/s": 6.3, "frames held": 7},
        FIRST_AND_LATEST: {"frames/s": 8.4, "frames held": 2},
        LFU: {"frames/s": 11.4, "frames held": 2},
    }
}

_MEANS = "J-Mean F-Mean J&F-Mean"
TABLE_4: Reference = {
    "davis2017": {SOFTMAX: _row(_MEANS, "79.9 82.2 83.0"), LFU: _row(_MEANS, "81.3 87.4 84.4")},
    "youtube-vos": {
        SOFTMAX: _row("J-Mean F-Mean G-Mean", "76.2 81.8 79.0"),
        LFU: _row("J-Mean F-Mean G-Mean", "78.2 84.0 81.1"),
    },
}

STRATEGY_REMARKS = {
    "": (
        "The thesis's every-5 numbers are those of STCN's published s012 weights, which were also trained on BL30K, "
        "although its text describes only static images and video.",
    ),
    "davis2017": ("The thesis's recalls of LFU on DAVIS-2017 (90.4, 92.9) repeat its first-and-latest row.",),
}
INDEX_REMARKS = {
    "davis2017": ("The thesis's softmax row on DAVIS-2017 averages 81.05 (79.9, 82.2), not 83.0 as printed.",),
}
CAPACITY_REMARKS = {
    "": ("The thesis's Fig. 11 has no numbers; its text says that 4 frames instead of 2 gain 2 J&F on YouTube-VOS.",),
}
PER_OBJECT_REMARKS = {
    "davis2017": (
        "The thesis's text counts 59 objects in DAVIS-2017; its Table 7 has 61, with the average of Table 1.",
    ),
}

# Tables 8 and 7: LFU at 2 frames; object, J, F.
_TABLES_7_AND_8 = {
    "davis2016": """
        blackswan_1 .962 .990  bmx-trees_1 .705 .921  breakdance_1 .907 .925  camel_1 .968 .994
        car-roundabout_1 .987 .987  car-shadow_1 .973 .997  cows_1 .959 .980  dance-twirl_1 .912 .931
        dog_1 .958 .986  drift-chicane_1 .876 .941  drift-straight_1 .945 .934  goat_1 .918 .958
        horsejump-high_1 .917 .976  kite-surf_1 .753 .926  libby_1 .915 .990  motocross-jump_1 .861 .810
        paragliding-launch_1 .657 .466  parkour_1 .956 .985  scooter-black_1 .946 .910  soapbox_1 .820 .861""",
    "davis2017": """
        bike-packing_1 .783 .863  bike-packing_2 .894 .918  blackswan_1 .965 .993  bmx-trees_1 .534 .941
        bmx-trees_2 .761 .935  breakdance_1 .926 .945  camel_1 .971 .995  car-roundabout_1 .987 .988
        car-shadow_1 .974 .997  cows_1 .962 .984  dance-twirl_1 .916 .939  dog_1 .959 .986
        dogs-jump_1 .887 .959  dogs-jump_2 .932 .961  dogs-jump_3 .945 .977  drift-chicane_1 .883 .941
        drift-straight_1 .944 .928  goat_1 .918 .957  gold-fish_1 .854 .878  gold-fish_2 .783 .870
        gold-fish_3 .911 .948  gold-fish_4 .923 .963  gold-fish_5 .925 .938  horsejump-high_1 .898 .972
        horsejump-high_2 .845 .988  india_1 .925 .912  india_2 .745 .750  india_3 .660 .689
        judo_1 .885 .906  judo_2 .846 .867  kite-surf_1 .532 .919  kite-surf_2 .396 .490
        kite-surf_3 .788 .946  lab-coat_1 .090 .272  lab-coat_2 .000 .000  lab-coat_3 .969 .962
        lab-coat_4 .944 .933  lab-coat_5 .926 .908  libby_1 .915 .990  loading_1 .975 .987
        loading_2 .839 .877  loading_3 .913 .967  mbike-trick_1 .847 .934  mbike-trick_2 .828 .849
        motocross-jump_1 .814 .813  motocross-jump_2 .858 .814  paragliding-launch_1 .851 .920
        paragliding-launch_2 .759 .929  paragliding-launch_3 .133 .419  parkour_1 .956 .984  pigs_1 .927 .961
        pigs_2 .805 .895  pigs_3 .925 .910  scooter-black_1 .786 .925  scooter-black_2 .898 .895
        shooting_1 .315 .411  shooting_2 .908 .884  shooting_3 .830 .947  soapbox_1 .883 .911
        soapbox_2 .819 .880  soapbox_3 .817 .919""",
}


def per_object(dataset: str) -> dict[str, tuple[float, float]]:
    """Returns J and F of LFU at 2 frames by object, such as camel_1 (Tables 7 and 8); empty for other data sets."""
    words = _TABLES_7_AND_8.get(dataset, "").split()
    return {name: (float(j), float(f)) for name, j, f in zip(words[::3], words[1::3], words[2::3], strict=True)}


def lfu_over(dataset: str, sequences: Iterable[str]) -> Row | None:
    """Returns the mean of LFU at 2 frames over the objects of these sequences; None if one is not in the thesis."""
    known = per_object(dataset)
    chosen = []
    for sequence in sequences:
        mine = [scores for name, scores in known.items() if name.rpartition("_")[0] == sequence]
        if not mine:
            return None
        chosen += mine
    if not chosen:
        return None
    j, f = (sum(column) / len(chosen) for column in zip(*chosen, strict=True))
    return {"J&F-Mean": (j + f) / 2, "J-Mean": j, "F-Mean": f}
