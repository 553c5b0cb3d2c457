"""What a registry's `/metrics` says, as Prometheus reads it."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Scraped:
    """All samples of one scrape."""

    samples: dict[Series, float]

    def value(self, name: str, **labels: str) -> float | None:
        """The sample with exactly these labels; None: there is none."""
        return self.samples.get((name, frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels, whatever others they have."""
        asked = set(labels.items())
        return sum(value for (found, has), value in self.samples.items() if found == name and asked <= has)

    def labels(self, name: str, label: str) -> set[str]:
        """The values that the label has in samples of this name."""
        return {dict(has)[label] for found, has in self.samples if found == name and label in dict(has)}

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


def scraped(text: str) -> Scraped:
    """`text` taken apart. Each sample must be there once, and no counter less than nothing."""
    samples: dict[Series, float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            series = (sample.name, frozenset(sample.labels.items()))
            assert series not in samples, series
            assert sample.value >= 0, series
            samples[series] = sample.value
    return Scraped(samples)
