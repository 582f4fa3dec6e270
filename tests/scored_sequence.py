"""The scores of frames in memory."""

from mnemask.metrics import SequenceScorer


def score_sequence(truths, predictions, name="sequence", **settings):
    """The report on one sequence; settings are those of SequenceScorer."""
    scorer = SequenceScorer(name, **settings)
    for truth, prediction in zip(truths, predictions, strict=True):
        scorer.add(truth, prediction)
    return scorer.report()
