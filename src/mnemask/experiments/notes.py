"""What a reader must know before comparing the figures: which data, which network, which machine, which misprints."""

from mnemask.experiments.plan import Study
from mnemask.experiments.thesis import GPU, KEY_DEPTH, SIZE, WHOLE_SETS


def notes_on(study: Study) -> list[str]:
    """Returns sentences on what the figures are and on what sets them apart from the thesis's."""
    notes = _on_data(study) + _on_network(study) + _on_speed(study)
    if study.reference:
        notes += [*study.experiment.remarks.get("", ()), *study.experiment.remarks.get(study.benchmark.dataset, ())]
    notes += [f"{outcome.run} is impossible: {outcome.refusal}" for outcome in study.outcomes if outcome.refusal]
    results = [result for outcome in study.outcomes for result in outcome.results]
    return notes + list(dict.fromkeys(note for result in results if result.report for note in result.report.notes))


def _on_data(study: Study) -> list[str]:
    benchmark, count = study.benchmark, len(study.challenges)
    whole = WHOLE_SETS.get(benchmark.dataset)
    notes = []
    if benchmark.palindrome is not None:
        notes.append(f"Each video was played forwards and backwards {benchmark.palindrome} times.")
    if study.is_the_thesis_set and whole is not None and count != whole:
        notes.append(
            f"PART OF THE DATA: {count} of the {whole} sequences of {benchmark.dataset} {benchmark.chosen_subset}; "
            "where the thesis's figures are over all of them, the row says so."
        )
    if study.experiment.reference and not study.reference:
        notes.append("The thesis has no such figures for these data.")
    if benchmark.secret:
        notes.append("The true masks are secret: the zips in submission/ are scored by the benchmark's server.")
    return notes


def _on_network(study: Study) -> list[str]:
    notes = [f"Weights: {study.model} (key encoder ResNet-{study.key_depth}); short side {study.size}."]
    if study.key_depth != KEY_DEPTH:
        notes.append(
            f"ANOTHER NETWORK: the thesis's has a ResNet-{KEY_DEPTH}; compare how rows differ from each other, not a "
            "row with its counterpart."
        )
    if study.size != SIZE:
        notes.append(f"ANOTHER SIZE: frames were processed at a short side of {study.size} and not of {SIZE}.")
    if study.kernel:
        notes.append(
            f"ANOTHER READ: memories are read near where they fit best (kernel {study.kernel:g}), unless a row says "
            "otherwise; the thesis reads them anywhere (--kernel 0)."
        )
    return notes


def _on_speed(study: Study) -> list[str]:
    threads = sorted({result.threads for outcome in study.outcomes for result in outcome.results})
    if not threads or "frames/s" not in study.experiment.columns:
        return []
    words = " or ".join(map(str, threads))
    text = f"frames/s is the tracker's alone, on {study.device} with {words} thread(s)"
    thesis = any("frames/s" in row for row in study.reference.values())
    return [text + (f"; the thesis's are of a {GPU}." if thesis else ".")]
