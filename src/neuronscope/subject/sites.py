"""The sites by name: where in a model the scalars live that are studied.

A new site is a class of `interfaces.Site` with `@register_site` above it. One of the library's own stands in a module
of its own, which `_OWN_MODULES` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from neuronscope.arguments import did_you_mean
from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.interfaces import Site, SitedSubject, Subject
from neuronscope.locks import Lock
from neuronscope.types import MLP, HookPoint, Neuron

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from neuronscope.subject.shape import Shape

S = TypeVar("S", bound="Site | type[Site]")

_OWN_MODULES = ("neuronscope.subject.mlp",)
"""Where the library's own sites register themselves."""

registered: dict[str, Site] = {}
"""The sites of this process by name; `site_names` makes sure that the library's own are among them."""
_registering = Lock()


def register_site(site: S) -> S:
    """Make a site known by its name, in this process; above a class, one made without arguments.

    Registering an equal one again changes nothing.

    Raises:
        ConfigurationError: the name cannot be one, or is another site's.
    """
    made: Site = site() if isinstance(site, type) else site
    Neuron(0, 0, site=made.name)  # says what is wrong with a name
    if type(made).__module__ not in _OWN_MODULES:
        _known()  # the library's own names are taken
    with _registering:
        known = registered.setdefault(made.name, made)
    if known.fingerprint != made.fingerprint:
        raise ConfigurationError(
            f"There is a site {made.name!r} already, with the fingerprint {known.fingerprint!r}; this one has "
            f"{made.fingerprint!r}. Give it another name."
        )
    return site


def site_named(name: str) -> Site:
    """The registered site of this name.

    Raises:
        ConfigurationError: there is none.
    """
    known = _known()
    if name not in known:
        raise ConfigurationError(
            f"There is no site {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}. Others are "
            "registered first, with neuronscope.register_site."
        )
    return known[name]


def site_names() -> tuple[str, ...]:
    """The names of all registered sites."""
    return tuple(_known())


def _known() -> dict[str, Site]:
    for module in _OWN_MODULES:
        import_module(module)
    return registered


def sites_of(subject: Subject | Shape) -> Sequence[str]:
    """The names of the sites that a subject has units at; one of your own that does not say has its neurons."""
    return tuple(getattr(subject, "sites", (MLP,)))


class SiteIdentity(NamedTuple):
    """What decides what a collection at a site gives, beside the subject."""

    name: str
    fingerprint: str
    """Of its weights and settings; "" for a site that a subject of one's own makes up, whose own covers it."""
    signed: bool
    """Whether large negative values mean something."""


def identify_site(subject: Subject, site: str) -> SiteIdentity:
    """A site of a subject.

    Raises:
        SubjectError: the subject lacks it.
    """
    check_site(subject, site)
    known = _known().get(site)
    if known is None:
        return SiteIdentity(site, "", signed=True)
    return SiteIdentity(site, known.fingerprint, known.signed)


def common_site(neurons: Iterable[Neuron]) -> str:
    """The site of all these neurons, as a collection has one.

    Raises:
        ConfigurationError: they are at several.
    """
    found = sorted({neuron.site for neuron in neurons}) or [MLP]
    if len(found) > 1:
        raise ConfigurationError(
            f"These neurons are at the sites {', '.join(found)}, and exemplars are collected at one: ask for those of "
            "each site by themselves."
        )
    return found[0]


def check_site(subject: Subject | Shape, site: str) -> None:
    """Raise a `SubjectError` that names the sites there are if the subject lacks this one."""
    there_are = sites_of(subject)
    if site not in there_are:
        name = getattr(subject, "name", type(subject).__name__)
        raise SubjectError(
            f"{name} has no units at the site {site!r}.{did_you_mean(site, there_are)} It has the sites "
            f"{', '.join(there_are)}; others are registered first, in Python, with neuronscope.register_site."
        )


def check_neuron(subject: Subject | Shape, neuron: Neuron) -> None:
    """Raise a `SubjectError` that names the sites or the ranges there are if the subject has no such neuron."""
    name = getattr(subject, "name", type(subject).__name__)
    check_site(subject, neuron.site)
    if neuron.layer >= subject.n_layers:
        raise SubjectError(
            f"{name} has layers 0 to {subject.n_layers - 1}; there is no layer {neuron.layer}. Choose a layer in that "
            "range."
        )
    width = width_of(subject, neuron.hook_point)
    if neuron.index >= width:
        raise SubjectError(
            f"Layer {neuron.layer} of {name} has neurons 0 to {width - 1}"
            f"{'' if neuron.site == MLP else f' at the site {neuron.site!r}'}; there is no neuron {neuron.index}. "
            "Choose an index in that range."
        )


def width_of(subject: Subject | Shape, point: HookPoint) -> int:
    """How many units a subject has there."""
    if point.site == MLP:
        return subject.width(point.layer)
    return _sited(subject, point.site).width(point.layer, point.site)


def activations_at(
    subject: Subject, token_ids: Sequence[Sequence[int]], layers: Sequence[int], site: str = MLP
) -> dict[int, list[NDArray[np.float32]]]:
    """`Subject.activations` at any site that the subject has.

    Raises:
        SubjectError: it lacks the site.
    """
    if site == MLP:
        return subject.activations(token_ids, layers)
    return _sited(subject, site).activations(token_ids, layers, site)


def _sited(subject: Subject | Shape, site: str) -> SitedSubject:
    check_site(subject, site)
    return cast(SitedSubject, subject)
