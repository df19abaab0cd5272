"""The metrics that have a name, a module each: `metrics=["detection"]` is what `@metric("detection", …)` is put on.

A new one is a new module here, and nothing else: the functions that `@metric` is put on are found, and the command
line, the error about a name that is none and the order of the table follow. Documentation has a row for each in
`docs/metrics.md`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from neuronscope.arguments import did_you_mean
from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import Metric
from neuronscope.metrics.registry import AnyMetrics, NamedMetric


def named_metrics() -> dict[str, Metric]:
    """Every metric that has a name, in the order of the table."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    metrics = [each for module in modules for each in vars(module).values() if isinstance(each, NamedMetric)]
    return {each.name: each for each in sorted(metrics, key=lambda each: (each.order, each.name))}


def choose(metrics: AnyMetrics | str, *, has_llm: bool, has_subject: bool) -> tuple[list[Metric], dict[str, str]]:
    """The metrics that can be measured, in the table's order, and with "all" the others with the reason.

    Metrics of one's own stand after those that have a name.

    Raises:
        ConfigurationError: there is no metric of a name, or one that was asked for cannot be measured.
    """
    known = named_metrics()
    if metrics == "all":
        missing = {name: why for name, each in known.items() if (why := _missing(each, has_llm, has_subject))}
        return [each for name, each in known.items() if name not in missing], missing
    given = [metrics] if isinstance(metrics, str) else list(metrics)
    names = [each for each in given if isinstance(each, str)]
    own = [each for each in given if not isinstance(each, str)]
    if not given or (unknown := [name for name in names if name not in known]):
        first = unknown[0] if given else ""
        hint = did_you_mean(first, [*known, "all"])
        raise ConfigurationError(f"There is no metric {first!r}.{hint} Known: {', '.join(known)}; or 'all'.")
    for each in own:
        if not isinstance(each, Metric):
            raise ConfigurationError(f"metrics has {each!r}, which is no metric: put `@metric(…)` on a function.")
    chosen = [each for name, each in known.items() if name in names] + own
    for each in chosen:
        if why := _missing(each, has_llm, has_subject):
            raise ConfigurationError(f"Cannot evaluate: {why}.")
    return chosen, {}


def _missing(metric: Metric, has_llm: bool, has_subject: bool) -> str:
    """Why a metric cannot be measured; "" if it can."""
    if "llm" in metric.needs and not has_llm:
        return (
            f'the metric "{metric.name}" needs a language model that {metric.needs["llm"]}, and llm="offline" has '
            'none. Pass llm="openai:gpt-4o" or another chat model'
        )
    if "subject" in metric.needs and not has_subject:
        return f'the metric "{metric.name}" {metric.needs["subject"]}, and none was given. Pass subject=...'
    return ""
