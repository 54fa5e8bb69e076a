"""``condition``: any network, FiLM-ed; and ``Conditioned``, what comes out of it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from featurewise.core import (
    ArgumentTypeError,
    Layout,
    LayoutError,
    Operation,
    OperationError,
    Site,
    TaskRepresentation,
    _torch,
)
from featurewise.core.plan import Plan
from featurewise.generators import LocalGenerator
from featurewise.generators.base import needs_condition
from featurewise.retrofit import calls, facade, saving, training
from featurewise.retrofit.calls import Call, Owner
from featurewise.retrofit.errors import CallError, SavingError, SiteWarning
from featurewise.retrofit.hooks import SiteHook
from featurewise.retrofit.probe import find_sites
from featurewise.retrofit.rows import RowMap, Rows
from featurewise.retrofit.samples import SampleTracker
from featurewise.retrofit.select import Where, count_parameters, resolve
from featurewise.retrofit.site_checks import (
    Watched,
    check_attached,
    check_not_compiled,
    has_compiled_code,
    start_tracking,
    unwatch_runs,
    watch_runs,
)


def condition(
    network: nn.Module,
    *,
    at: Where,
    operation: Operation | str | None = None,
    generator: nn.Module | Callable[[Layout], nn.Module],
    axis: int | None = None,
    batch_axis: int | None = None,
    example: Any = None,
    when: str = "output",
    identity: bool = True,
    resize: str | None = None,
    freeze: bool = False,
    batch_norm: str | None = None,
) -> Conditioned:
    """Condition a network at its sites, with an operation, by a generator.

    The network keeps its modules, its code and the keys of its state dict; hooks are added at the
    sites. Right after this call the output equals the network's, bit for bit. Condition after
    other surgery (PEFT, wrappers), which renames modules. A network in evaluation mode stays in
    it, and the generator follows.

    Args:
        network: any network; it is changed only by hooks, which ``Conditioned.remove`` takes away.
        at: the sites: a pattern of module names (``*`` within one component, ``**`` any number
            of components), a module type, a function ``(name, module) -> bool``, a
            ``Selection`` of this network, a sequence of these, or a mapping of these to the
            operation of each. Operations that a selection brings stand.
        operation: what is done to the features, or its name ("film", "shift", "gate", ...; see
            ``operation_of``); when not given, FiLM (``Affine()``), and at a declared site (a
            ``FiLM`` layer without a generator) the operation of that.
        generator: condition -> parameters: a ``Generator``, a ``LocalGenerator``, any module that
            gives a flat tensor or a ``TaskRepresentation``, or a function layout -> module. It is
            bound to the layout, and a newly bound one is moved to the device of the network.
        axis: feature axis at the sites. Norms tell their own, by a run of a copy, and layers by
            their type; of other modules it is followed through the dry run. It is never guessed,
            and one that contradicts a norm is refused.
        batch_axis: axis of the samples at the sites; found by type or in the dry run.
        example: inputs of the network, for a dry run which computes nothing: a tensor, a tuple
            of arguments, or a dict of keyword arguments. Needed for sites whose type tells
            nothing of their features, and for operations with position terms.
        when: "output" modulates what the modules return, "input" what they receive.
        identity: refuse operations that have no identity.
        resize: how a condition that varies over positions (a map, a sequence) is brought to the
            positions of each site, where they are others: "nearest", "linear" or "area" resize
            the raw parameters; see ``Site``. Without, sites with other positions refuse it.
        freeze: let the generator alone be trained: no parameter of the network wants a gradient,
            until ``Conditioned.remove``.
        batch_norm: what becomes of running statistics in training: "train" moves them, as ever;
            "frozen" uses them as they are and never moves them, whoever calls ``train()``.
            Default: "frozen" with ``freeze``, else "train".

    Returns:
        The conditioned network.

    Raises:
        LayoutError: a selector without a match, a site that is never run, an axis that cannot be
            told or contradicts a norm, or an unknown ``resize``.
        CallError: a site in a network that was compiled before.
        OperationError: ``identity`` is wanted and an operation has none, or a name that no
            operation has.
        ShapeError: features that do not fit the site or the operation.
        ArgumentTypeError: an argument of the wrong kind.

    Source:
        Perez et al. 2018, *FiLM: Visual Reasoning with a General Conditioning Layer*, eq. 1-2.

    Example:
        >>> from featurewise.generators import Linear
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> net = condition(network, at="0", generator=Linear(16))
        >>> net(torch.randn(5, 3, 9, 9), condition=torch.randn(5, 16)).shape
        torch.Size([5, 8, 7, 7])
    """
    if not isinstance(network, nn.Module):
        raise ArgumentTypeError(f"network must be a module, got {type(network).__name__}")
    if when not in ("input", "output"):
        raise LayoutError(f"when must be 'input' or 'output', got {when!r}")
    training.policy(batch_norm, freeze)
    chosen = resolve(network, at, operation)
    sites = find_sites(
        network, chosen, when=when, axis=axis, batch_axis=batch_axis, example=example
    )
    layout = _layout(sites, network, resize)
    if identity and not layout.neutral:
        raise OperationError(_no_identity(layout))
    return Conditioned(
        network,
        _bound(generator, layout, network),
        layout,
        freeze=freeze,
        batch_norm=batch_norm,
    )


def _layout(sites: tuple[Site, ...], network: nn.Module, resize: str | None) -> Layout:
    """The sites with what is for people to read: class names, and the size of the network."""
    kinds = [type(network.get_submodule(site.name)).__name__ for site in sites]
    named = [
        dataclasses.replace(site, module=kind, resize=resize)
        for site, kind in zip(sites, kinds, strict=True)
    ]
    return Layout(tuple(named), count_parameters(network))


def _no_identity(layout: Layout) -> str:
    site = next(s for s in layout if not all(p.neutral for p in s.parameters.values()))
    return (
        f"{site.operation} at site '{site.name}' has no identity, so the conditioned network could "
        "not start as the network; choose another operation, or pass identity=False"
    )


def _bound(
    generator: nn.Module | Callable[[Layout], nn.Module], layout: Layout, network: nn.Module
) -> nn.Module:
    made = generator if isinstance(generator, nn.Module) else generator(layout)
    if not isinstance(made, nn.Module):
        raise ArgumentTypeError(
            f"generator must be a module or give one for a layout, got {type(made).__name__}"
        )
    bind = getattr(made, "bind", None)
    if bind is not None:
        bind(layout)
        like = next(network.parameters(), None)
        if like is not None and like.device.type != "meta":
            made.to(like.device)
    return made


class Conditioned(nn.Module):
    """A FiLM-ed network: backbone, generator and layout. Made by ``condition``.

    Attributes that it lacks are those of the backbone (``config``, ``device``, ``generate``, ...).
    Methods of the backbone take ``condition`` and the other arguments of ``using`` besides their
    own: ``net.generate(tokens, condition=z)``. The signature of ``forward`` is the backbone's,
    with ``condition`` and ``task``.

    Attributes:
        backbone: the network, whose modules and state-dict keys are untouched.
        generator: condition -> parameters.
        layout: the sites.
    """

    backbone: nn.Module
    generator: nn.Module
    _backbone_ref: saving.BackboneRef | None = None
    _frozen: tuple[str, ...] = ()
    _batch_norm: str = "train"
    _kept_still: tuple[RemovableHandle, ...] = ()  # hooks of the policy
    #: The Trainer asks for it after a checkpoint that lacks tensors: none are left out on purpose.
    _keys_to_ignore_on_save: None = None
    #: The Trainer asks whether something that can be trained is attached to a quantised network.
    _hf_peft_config_loaded: bool = True

    def __init__(
        self,
        backbone: nn.Module,
        generator: nn.Module,
        layout: Layout,
        *,
        freeze: bool = False,
        batch_norm: str | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.generator = generator
        self.layout = layout
        self._owner = Owner()
        self._plan = Plan(layout)
        self._conditional = needs_condition(generator)
        # By how rows are repeated: the sites to which a run was followed.
        self._followed: dict[str | None, set[str]] = {}
        self._removed = False
        check_not_compiled(backbone, layout)
        self._handles: list[RemovableHandle] = [
            SiteHook(self._owner, site, place).attach(backbone.get_submodule(site.name))
            for place, site in enumerate(layout)
        ]
        self._set_policy(freeze, batch_norm)
        self._follow_mode()
        self.__class__ = facade.shown_class(type(self), backbone)

    def _set_policy(self, freeze: bool, batch_norm: str | None) -> None:
        self._batch_norm = training.policy(batch_norm, freeze)
        if freeze:
            self._frozen = training.freeze_parameters(self.backbone, self.generator)
        if self._batch_norm == "frozen":
            frozen = training.FrozenStatistics()
            norms = training.running_norms(self.backbone)
            self._kept_still = tuple(frozen.attach(norm) for norm in norms)

    def _follow_mode(self) -> None:
        """Take the mode of the backbone: what runs in evaluation mode must be deterministic."""
        self.training = self.backbone.training
        if not self.training:
            self.generator.eval()

    def forward(
        self,
        *args: Any,
        condition: Any = None,
        task: TaskRepresentation | Tensor | None = None,
        repeat: str | None = None,
        rows: Rows | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the backbone with the features of every site modulated.

        Args:
            *args: positional arguments of the backbone.
            condition: what the generator takes; one row per sample, or one for all.
            task: parameters in place of a condition: a ``TaskRepresentation`` or a flat tensor,
                ``(N,)``, ``(B, N)`` or ``(B, N, *positions)``.
            repeat: how B conditions belong to k * B rows of features, decided site by site:
                "interleave" (the k rows of a condition follow each other: beams, sampled
                sequences, frames, tokens) or "tile" (all B rows, k times: ``cat([x, x])``).
            rows: which condition each row of the features has, ``(R,)`` integers: where rows are
                no samples, as the tokens of an expert or the edges of a graph. One index for all
                sites, a mapping of patterns of site names to indices, or a function
                ``(site, features) -> index`` (None: one to one).
            **kwargs: keyword arguments of the backbone. One called as an argument of this method
                must go through ``using``.

        Returns:
            What the backbone returns.

        Raises:
            CallError: neither condition nor task where one is needed, or both; a site whose
                module was replaced.
            LayoutError: a task of another layout; ``repeat`` and ``rows`` that make no sense; a
                condition per sample at a site whose rows are seen not to be the samples.
            ShapeError: parameters that do not fit a site; the message names it.

        Warns:
            SiteWarning: a site was not reached, and is no part of compiled code.
        """
        if condition is None and task is None and facade.plain_run(self):
            return self.backbone(*args, **kwargs)
        call = self._call(condition, task, None, RowMap.of(repeat, rows, self.layout))
        traced = torch.compiler.is_compiling()
        call.tracker = None if traced else self._tracker(call, (args, kwargs))
        stack = calls.prepare(call)
        try:
            stack.append(call)
            if call.tracker is None:
                output = self.backbone(*args, **kwargs)
            else:
                with call.tracker:
                    output = self.backbone(*args, **kwargs)
        finally:
            if traced:
                stack.pop()
            else:
                stack.remove(call)
            calls.finish(call)
        if not traced:
            self._after(call, output)
        return output

    def represent(self, condition: Any = None) -> TaskRepresentation:
        """The task representation of a condition.

        Raises:
            CallError: if the generator is local: it answers only where there are features; see
                ``using(record=...)``.
        """
        if isinstance(self.generator, LocalGenerator):
            raise CallError(
                f"{type(self.generator).__name__} makes its parameters from the features of each "
                "site; run the network with using(condition=..., record=a_dict) instead"
            )
        if condition is None and self._conditional:
            raise CallError(_nothing_given(self.generator))
        made = self.generator(condition) if condition is not None else self.generator()
        if isinstance(made, TaskRepresentation):
            return self._own(made)
        if not isinstance(made, Tensor):
            raise ArgumentTypeError(
                f"{type(self.generator).__name__} must give a flat tensor or a "
                f"TaskRepresentation, got {type(made).__name__}"
            )
        return TaskRepresentation(self.layout, made)

    @contextmanager
    def using(
        self,
        *,
        condition: Any = None,
        task: TaskRepresentation | Tensor | None = None,
        record: dict[str, dict[str, Tensor]] | None = None,
        repeat: str | None = None,
        rows: Rows | None = None,
        partial: bool = False,
    ) -> Iterator[Conditioned]:
        """Let whatever runs the backbone in this block, in this thread, be conditioned.

        Do not hold the block open across an ``await``: another coroutine that runs the network
        meanwhile raises.

        Args:
            condition: as in ``forward``.
            task: as in ``forward``.
            record: filled with the raw parameters of each site that is passed,
                ``{site: {parameter: tensor}}``; the latest where a site is passed twice.
            repeat: as in ``forward``; for ``generate`` with beams, "interleave".
            rows: as in ``forward``.
            partial: the block runs a part of the network on purpose (an encoder alone, one row of
                an image), so that sites which it does not reach are not reported.

        Raises:
            CallError: scopes that interleave; a site whose module was replaced.

        Warns:
            SiteWarning: a site was not reached in the block, or a run of the network used the
                module around it and went past it.
        """
        call = self._call(condition, task, record, RowMap.of(repeat, rows, self.layout))
        if not torch.compiler.is_compiling():
            watch_runs(self.backbone, self.layout, self._owner)
            call.watched = Watched(self._tracker)
        with calls.scope(call):
            yield self
        if call.grad and len(call.visited) < len(self.layout):
            calls.keep_hidden(call)
        # Where nothing ran under this call, no site was missed, unless what ran is compiled.
        if torch.compiler.is_compiling() or self._removed:
            return
        if call.visited or has_compiled_code(self.backbone, self.layout):
            missed = self._missed(call)
            if missed and not partial:
                warnings.warn(_never_reached(missed, "block"), SiteWarning, stacklevel=3)

    def replace_generator(self, generator: nn.Module | Callable[[Layout], nn.Module]) -> nn.Module:
        """Let another generator serve the same sites: a bank, a control, one newly trained.

        Args:
            generator: as in ``condition``.

        Returns:
            The generator that served until now.

        Raises:
            LayoutError: if the generator is bound to other sites.
            ArgumentTypeError: if it is no module and makes none.
        """
        before = self.generator
        self.generator = _bound(generator, self.layout, self.backbone)
        if not self.training:
            self.generator.eval()
        self._conditional = needs_condition(self.generator)
        return before

    def save_pretrained(self, folder: str | Path, *, statistics: bool = True) -> None:
        """Write the conditioner alone into a folder: everything but the backbone.

        Written are the generator's weights, the layout, how the generator is made, a fingerprint
        of the backbone and a model card. The folder appears whole or not at all; the same
        conditioner makes the same bytes.

        Args:
            folder: absent, empty, or an older conditioner, which is replaced.
            statistics: whether to write the running statistics of the backbone's batch norms,
                which training moves, too. Loading sets them. Without, they are part of what the
                backbone must agree in.

        Raises:
            SavingError: it cannot be written there, or would replace other files.
        """
        check_attached(self.backbone, self.layout, self._owner)
        saving.save(folder, self.backbone, self.generator, self.layout, statistics=statistics)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_repo: str | Path,
        network: nn.Module,
        *,
        generator: nn.Module | None = None,
        check: str = "weights",
        freeze: bool = False,
        batch_norm: str | None = None,
    ) -> Conditioned:
        """Condition ``network`` by what ``save_pretrained`` wrote.

        Args:
            folder_or_repo: the folder; where there is none of that name, a repository of the
                Hugging Face hub.
            network: the backbone; changed as by ``condition``, and its batch norms receive the
                statistics that were saved.
            generator: the generator, unbound or bound to an equal layout, where its class cannot
                be made from JSON. Its weights are overwritten.
            check: "weights" refuses a network whose class, settings, tensors or values differ;
                "architecture" compares class, settings, names and shapes; "later" compares these
                now, and the values at the first eager call or by ``verify``, for a backbone whose
                own checkpoint is loaded afterwards; "sites" compares the names and shapes of the
                tensors in the modules at the sites, and nothing else (a vocabulary that was
                resized, another head).
            freeze: as in ``condition``.
            batch_norm: as in ``condition``.

        Raises:
            SavingError: no such folder, damaged, no conditioner, or a generator that cannot be
                made again.
            FormatError: written by a later version.
            BackboneError: another network; the message names the difference.
            ArgumentTypeError: an argument of the wrong kind.
        """
        training.policy(batch_norm, freeze)
        loaded = saving.load(folder_or_repo, network, generator=generator, check=check)
        net = facade.plain_class(cls)(
            network, loaded.generator, loaded.layout, freeze=freeze, batch_norm=batch_norm
        )
        net._backbone_ref = loaded.backbone_ref
        net._handles += loaded.watch(network, net._owner)
        return net

    def verify(self) -> None:
        """Compare the backbone with the one that was saved, as ``from_pretrained`` was told to.

        Raises:
            BackboneError: another network; the message names the difference.
            SavingError: the conditioner was not loaded, so there is nothing to compare with.
        """
        if self._backbone_ref is None:
            raise SavingError("this conditioner was not made by from_pretrained")
        self._backbone_ref.verify(self.backbone)

    def push_to_hub(
        self,
        repo: str,
        *,
        statistics: bool = True,
        private: bool = False,
        message: str = "Conditioner by featurewise",
        api: Any = None,
    ) -> str:
        """Upload what ``save_pretrained`` writes to the Hugging Face hub.

        Args:
            repo: the repository, "owner/name"; made where there is none.
            statistics: as in ``save_pretrained``.
            private: whether a new repository is private.
            message: of the commit.
            api: a ``huggingface_hub.HfApi``, for other settings than the default.

        Returns:
            The address of the repository.

        Raises:
            SavingError: ``huggingface_hub`` is not installed, or the hub refuses.
        """
        check_attached(self.backbone, self.layout, self._owner)
        return saving.push(
            repo,
            self.backbone,
            self.generator,
            self.layout,
            statistics=statistics,
            private=private,
            message=message,
            api=api,
        )

    def remove(self) -> nn.Module:
        """Take the hooks away and give the backbone back, bit for bit as it was.

        What training did to it stays: weights that were not frozen, running statistics. What
        ``freeze`` and ``batch_norm`` held still is free again.
        """
        for handle in (*self._handles, *self._kept_still):
            handle.remove()
        self._handles.clear()
        unwatch_runs(self.backbone, self._owner)
        self._kept_still = ()
        self._removed = True
        training.thaw_parameters(self.backbone, self._frozen)
        self._frozen = ()
        if self._batch_norm == "frozen":
            self._batch_norm = "train"
            for norm in training.running_norms(self.backbone):
                norm.train(self.backbone.training)
        return self.backbone

    def print_trainable_parameters(self) -> None:
        """Print how many numbers are trained, of how many: backbone and generator together.

        Raises:
            CallError: a parameter that has no shape before the first run.
        """
        trainable, total = training.count_trainable(self)
        share = 100 * trainable / max(total, 1)
        print(
            f"trainable params: {trainable:,} || all params: {total:,} || trainable%: {share:.4f}"
        )

    def train(self, mode: bool = True) -> Conditioned:
        """Set the mode of generator and backbone; frozen running statistics stay frozen."""
        super().train(mode)
        if self._batch_norm == "frozen":
            for norm in training.running_norms(self.backbone):
                norm.eval()
        return self

    def to_empty(self, *, device: Any, recurse: bool = True) -> Conditioned:
        """Move to ``device`` without copying the backbone's values, which are lost.

        The generator keeps its values, and with them the identity. On the meta device it has none
        and is made again, as it was at birth; one that cannot be made from JSON (see
        ``save_pretrained``) is left to its modules' ``reset_parameters``.
        """
        self.backbone.to_empty(device=device, recurse=recurse)
        self.generator = saving.materialized(self.generator, self.layout, device)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """State of backbone and generator, as of any module.

        A tensor that has several names (tied embeddings) is copied for all but the first, since
        safetensors, and with it the trainers, refuse names that share memory.
        """
        state = super().state_dict(*args, **kwargs)
        prefix, keep_vars = (*args[1:], *("", False)[len(args[1:]) :])[:2]
        if not kwargs.get("keep_vars", keep_vars):
            saving.untie(state, kwargs.get("prefix", prefix))
        return state

    def extra_repr(self) -> str:
        """Sites and size, for ``repr``."""
        return f"{len(self.layout)} sites, {self.layout.size} parameters per condition"

    def __repr__(self) -> str:
        kind = facade.plain_class(type(self)).__name__
        return kind + super().__repr__().removeprefix(self._get_name())

    def _get_name(self) -> str:
        # Trainers know by it how a loss is made: causal language models shift their labels.
        backbone = self._modules.get("backbone")
        return type(backbone or self).__name__

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return facade.attribute(self, name)

    # Torch refuses to register a name that is an attribute already: it means our own attributes.
    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a buffer, as to any module."""
        with facade.own_attributes(self):
            super().register_buffer(name, tensor, persistent)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add a parameter, as to any module."""
        with facade.own_attributes(self):
            super().register_parameter(name, param)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a module, as to any module."""
        with facade.own_attributes(self):
            super().add_module(name, module)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class that shows the backbone's signature is made again where the state is set.
        return facade.remake, (facade.plain_class(type(self)),), vars(self)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.__class__ = facade.shown_class(type(self), self.backbone)

    def _call(
        self,
        condition: Any,
        task: TaskRepresentation | Tensor | None,
        record: dict[str, dict[str, Tensor]] | None,
        rows: RowMap | None = None,
    ) -> Call:
        if self._removed:
            raise CallError(facade.REMOVED)
        if task is None and isinstance(self.generator, LocalGenerator):
            return Call(self._owner, None, None, self.generator, condition, record, rows)
        own = self._task(condition, task)
        return Call(self._owner, own, self._plan.pairs(own.flat), record=record, rows=rows)

    def _tracker(self, call: Call, inputs: Any) -> SampleTracker | None:
        """What follows the samples of this run to the sites; None once all sites were seen."""
        if call.parameters is None or call.parameters.flat.ndim < 2:
            return None
        if len(self._followed.get(_repeat(call), ())) == len(self.layout):
            return None
        tracker = start_tracking(call, inputs, self.layout)
        call.followed |= tracker is not None
        return tracker

    def _missed(self, call: Call) -> list[str]:
        """Sites that ``call`` did not reach, as far as can be seen.

        Raises:
            CallError: if the module of one was replaced, so that it never will be.
        """
        if call.followed:
            self._followed.setdefault(_repeat(call), set()).update(call.visited)
        if len(call.visited) == len(self.layout):
            return []
        check_attached(self.backbone, self.layout, self._owner)
        return [
            site.name
            for place, site in enumerate(self.layout)
            if site.name not in call.visited and not calls.was_traced(self._owner, place)
        ]

    def _task(self, condition: Any, task: TaskRepresentation | Tensor | None) -> TaskRepresentation:
        """The one task that a condition or a task stands for, checked."""
        if task is None:
            return self.represent(condition)
        if condition is not None:
            raise CallError("give a condition or a task, not both")
        return self._own(task if isinstance(task, TaskRepresentation) else self._flat(task))

    def _flat(self, task: object) -> TaskRepresentation:
        if not isinstance(task, Tensor):
            raise ArgumentTypeError(
                f"task must be a TaskRepresentation or a flat tensor, got {type(task).__name__}"
            )
        return TaskRepresentation(self.layout, task)

    def _own(self, task: TaskRepresentation) -> TaskRepresentation:
        if task.layout is not self.layout and task.layout != self.layout:
            raise LayoutError(
                f"the task belongs to other sites: {', '.join(task.layout.names)}; "
                f"this network has {', '.join(self.layout.names)}"
            )
        return task

    def _after(self, call: Call, output: Any) -> None:
        """What only a finished call tells: sites that were passed by; who keeps the call alive."""
        hidden = len(call.visited) < len(self.layout)
        if hidden or call.followed:
            missed = self._missed(call)
            if missed:
                warnings.warn(_never_reached(missed, "call"), SiteWarning, stacklevel=5)
        if call.unmarked or (hidden and call.grad):
            for leaf in _torch.tree_flatten(output)[0]:
                if isinstance(leaf, Tensor) and leaf.requires_grad:
                    calls.keep(call, leaf)


def _repeat(call: Call) -> str | None:
    return None if call.rows is None else call.rows.repeat


def _never_reached(sites: list[str], where: str) -> str:
    return (
        f"never reached in this {where}: {', '.join(sites)}; nothing was modulated there. A module "
        "whose forward is not called as a module (out_proj of MultiheadAttention, x.forward(), "
        "weights that other code reads) cannot be modulated, and code compiled before the network "
        "was conditioned does not see its sites"
        + ("; using(partial=True) runs parts on purpose" if where == "block" else "")
    )


def _nothing_given(generator: nn.Module) -> str:
    return (
        f"{type(generator).__name__} needs a condition: call net(x, condition=...), or give the "
        "parameters themselves, net(x, task=...)"
    )
