"""Write plain numbers, which the code counts anyway, to Prometheus metrics now and then.

So nothing that serves requests knows of Prometheus, and a metric costs nothing between two samples.
Upstream's ``/metrics`` adds up the processes' files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

PREFIX = "sglang:tenant_"


@dataclass(frozen=True, slots=True)
class Metric:
    """``name``: without the prefix; a counter's ends in ``_total``. ``labels``: its own ones.

    ``mode``: how Prometheus puts several processes' gauges together.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    mode: Literal["mostrecent", "livesum", "livemin"] = "mostrecent"

    @property
    def grows(self) -> bool:
        return self.name.endswith("_total")


# A metric, the values of its labels, and its value now.
Sample = tuple[Metric, tuple[str, ...], float]


class MetricWriter:
    """``labels``: of the process, on all its metrics. To be made where Prometheus's environment is
    set."""

    def __init__(self, labels: Mapping[str, Any]):
        self._labels = {name: str(value) for name, value in labels.items()}
        self._families: dict[Metric, Any] = {}
        self._series: dict[tuple[Metric, tuple[str, ...]], Any] = {}
        self._before: dict[tuple[Metric, tuple[str, ...]], float] = {}

    def write(self, samples: Iterable[Sample]) -> None:
        """Write what has changed. What is counted anew from 0 goes on from where it was."""
        for metric, values, number in samples:
            at = metric, values
            before = self._before.get(at)
            if number == before:
                continue
            self._before[at] = number
            series = self._series_of(metric, values)
            if not metric.grows:
                series.set(number)
            elif before is None or number < before:
                series.inc(number)
            else:
                series.inc(number - before)

    def histogram(self, metric: Metric, buckets: Sequence[float]) -> Callable[[float], None]:
        """Return what counts each number it is called with."""
        from prometheus_client import Histogram

        family = Histogram(PREFIX + metric.name, metric.help, [*self._labels], buckets=buckets)
        observe: Callable[[float], None] = family.labels(**self._labels).observe
        return observe

    def _series_of(self, metric: Metric, values: tuple[str, ...]) -> Any:
        series = self._series.get((metric, values))
        if series is None:
            family = self._family(metric)
            series = family.labels(**self._labels, **dict(zip(metric.labels, values, strict=True)))
            self._series[metric, values] = series
        return series

    def _family(self, metric: Metric) -> Any:
        family = self._families.get(metric)
        if family is None:
            # Upstream sets what this reads when it is imported, so not before.
            from prometheus_client import Counter, Gauge

            names = [*self._labels, *metric.labels]
            name = PREFIX + metric.name
            if metric.grows:
                family = Counter(name, metric.help, names)
            else:
                family = Gauge(name, metric.help, names, multiprocess_mode=metric.mode)
            self._families[metric] = family
        return family
