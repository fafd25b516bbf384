"""All that a training will say to its text encoder, linted with the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Callable

from training.captions import lint, without_trigger
from training.dataset import Dataset
from training.folders import raise_first


def check_captions(dataset: Dataset, *, count_tokens: Callable[[str], int], max_tokens: int) -> None:
    """Lint all that training and its samples will encode, with the model's own tokenizer.

    That is every caption; with the class word for the trigger too where there is a prior weight; and the
    sample prompts. Raises `DatasetError` with the first fault.
    """
    examples = (*dataset.examples, *dataset.mirror_images)
    faults = [
        f"{example.path.with_suffix('.txt')}: {fault}"
        for example in examples
        for fault in lint(
            example.caption,
            trigger=dataset.file.concept[example.concept].trigger,
            invariant=dataset.file.concept[example.concept].invariant,
            count_tokens=count_tokens,
            max_tokens=max_tokens,
        )
    ]
    reads = f"tokens, the text encoder reads {max_tokens}; shorten"
    if dataset.file.train.prior_weight > 0:
        for example in examples:
            concept = dataset.file.concept[example.concept]
            plain = without_trigger(example.caption, trigger=concept.trigger, class_word=concept.class_word)
            if (found := count_tokens(plain)) > max_tokens:
                where = (
                    f"{example.path.with_suffix('.txt')}: with '{concept.class_word}' for '{concept.trigger}'"
                )
                faults.append(f"{where} (train.prior_weight) {found} {reads} the caption")
    for example in dataset.priors:
        if (found := count_tokens(example.caption)) > max_tokens:
            faults.append(f"{example.path.with_suffix('.txt')}: {found} {reads} the caption")
    for number, prompt in enumerate(dataset.file.train.samples, start=1):
        if (found := count_tokens(prompt)) > max_tokens:
            faults.append(f"{dataset.path}:train.samples[{number}]: {found} {reads} the prompt")
    raise_first(faults)
