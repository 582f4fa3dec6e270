"""The rows of an experiment's table, with the thesis's numbers, and the notes needed to compare them."""

from statistics import fmean

from mnemask.evaluation.results import Result
from mnemask.evaluation.tables import GAIN, Row, overall_rows
from mnemask.experiments.plan import Outcome, Run, Study, memory_text
from mnemask.experiments.thesis import GPU, KEY_DEPTH, LFU, SIZE, WHOLE_SETS, lfu_over, per_object
from mnemask.metrics import Report
from mnemask.metrics.significance import report_difference

OURS = "this run"


def run_rows(study: Study) -> list[Row]:
    """Returns a row for each run, each followed by the thesis's numbers for it, if there are any."""
    rows: list[Row] = []
    for outcome in study.outcomes:
        names: Row = {"run": outcome.run.label, "budget": memory_text(outcome.run.budget)}
        found = _measured(study, outcome) if outcome.results else {"note": "impossible, see below"}
        thesis = _thesis_rows(study, outcome.run)
        for source, values in ((OURS, found), *thesis):
            chosen = {name: values.get(name) for name in (*study.experiment.columns, "note") if name in values}
            if chosen or source == OURS:
                rows.append(names | ({"source": source} if study.reference else {}) | chosen)
    return rows


def object_rows(study: Study) -> list[Row]:
    """Returns a row for each object of the first run and a last one, "all", with the thesis's J and F."""
    outcome = study.outcomes[0]
    if not outcome.scored:
        return run_rows(study)
    known = per_object(study.benchmark.dataset) if study.is_the_thesis_set else {}
    rows: list[Row] = []
    for score in _merged(outcome.results).rows("object"):
        name = str(score["name"])
        row: Row = {"object": name, "J-Mean": score["J-Mean"], "F-Mean": score["F-Mean"]}
        if known:
            row |= _beside(row, known.get(name))
        rows.append(row)
    if known:
        whole = lfu_over(study.benchmark.dataset, [sequence.name for sequence in study.sequences])
        beside = None if whole is None else (_number(whole["J-Mean"]), _number(whole["F-Mean"]))
        rows[-1] |= _beside(rows[-1], beside)
    return rows


def _beside(ours: Row, thesis: tuple[float, float] | None) -> Row:
    if thesis is None:
        return {"thesis J": None, "thesis F": None, "difference": None}
    mine = (_number(ours["J-Mean"]) + _number(ours["F-Mean"])) / 2
    return {"thesis J": thesis[0], "thesis F": thesis[1], "difference": mine - fmean(thesis)}


def _number(value: str | int | float | None) -> float:
    assert isinstance(value, float), f"{value!r} is not a score"
    return value


def _measured(study: Study, outcome: Outcome) -> Row:
    (row,) = overall_rows(outcome.results)
    baseline = study.experiment.baseline
    if baseline is None or not outcome.scored or not study.of(baseline).scored:
        return row
    if outcome.run == baseline:
        return row | {"gain": None}
    return row | gain(outcome.results, study.of(baseline).results)


def gain(results: tuple[Result, ...], baseline: tuple[Result, ...]) -> Row:
    """Returns J&F minus that of another run, with the 95 % interval of this difference and its p-value.

    The runs are paired by sequence, so that differences in difficulty between sequences do not matter.
    """
    mine, others = _merged(results), _merged(baseline)
    found = report_difference(mine, others)
    if found is None:
        return {"gain": mine.j_and_f - others.j_and_f, "gain-Low": None, "gain-High": None, "p": None}
    return dict(zip(GAIN, (found.gain, found.low, found.high, found.p), strict=True))


def _merged(results: tuple[Result, ...]) -> Report:
    return Report.merged(result.report for result in results if result.report is not None)


def _thesis_rows(study: Study, run: Run) -> list[tuple[str, Row]]:
    values = study.reference.get(run)
    if values is None:
        return []
    whole, names = WHOLE_SETS[study.benchmark.dataset], [sequence.name for sequence in study.sequences]
    if len(names) == whole:
        return [("thesis", values)]
    rows = [(f"thesis, all {whole}", values)]
    same = lfu_over(study.benchmark.dataset, names) if run == LFU else None
    return rows if same is None else [(f"thesis, these {len(names)}", same), *rows]


def notes_on(study: Study) -> list[str]:
    """Returns sentences on what the numbers are and how they differ from the thesis's."""
    notes = _on_data(study) + _on_network(study) + _on_speed(study)
    if study.reference:
        notes += [*study.experiment.remarks.get("", ()), *study.experiment.remarks.get(study.benchmark.dataset, ())]
    notes += [f"{outcome.run} is impossible: {outcome.refusal}" for outcome in study.outcomes if outcome.refusal]
    results = [result for outcome in study.outcomes for result in outcome.results]
    return notes + list(dict.fromkeys(note for result in results if result.report for note in result.report.notes))


def _on_data(study: Study) -> list[str]:
    benchmark, count = study.benchmark, len(study.sequences)
    whole = WHOLE_SETS.get(benchmark.dataset)
    notes = []
    if benchmark.ping_pong is not None:
        notes.append(f"Each video was played forwards and backwards {benchmark.ping_pong} times.")
    if study.is_the_thesis_set and whole is not None and count != whole:
        notes.append(
            f"PART OF THE DATA: {count} of the {whole} sequences of {benchmark.dataset} {benchmark.chosen_subset}; "
            "rows with the thesis's numbers over all of them are labelled so."
        )
    if study.experiment.reference and not study.reference:
        notes.append("The thesis has no such numbers for these data.")
    if benchmark.secret:
        notes.append("The true masks are secret: the zips in submission/ are scored by the benchmark's server.")
    return notes


def _on_network(study: Study) -> list[str]:
    notes = [f"Weights: {study.model} (key encoder ResNet-{study.key_depth}); short side {study.size}."]
    if study.key_depth != KEY_DEPTH:
        notes.append(
            f"ANOTHER NETWORK: the thesis's has a ResNet-{KEY_DEPTH}; compare rows with each other, not a row with its "
            "counterpart."
        )
    if study.size != SIZE:
        notes.append(f"ANOTHER SIZE: frames were processed at a short side of {study.size}, not {SIZE}.")
    if study.kmn_sigma:
        notes.append(
            f"ANOTHER READ: tokens are read near where they match best (KMN kernel, σ {study.kmn_sigma:g}), unless a "
            "row says otherwise; the thesis reads them anywhere (--kmn-sigma 0)."
        )
    return notes


def _on_speed(study: Study) -> list[str]:
    threads = sorted({result.threads for outcome in study.outcomes for result in outcome.results})
    if not threads or "frames/s" not in study.experiment.columns:
        return []
    words = " or ".join(map(str, threads))
    text = f"frames/s is that of the tracker alone, on {study.device} with {words} thread(s)"
    thesis = any("frames/s" in row for row in study.reference.values())
    return [text + (f"; the thesis's was measured on a {GPU}." if thesis else ".")]
