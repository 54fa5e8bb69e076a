"""``condition`` adds FiLM-like conditioning to any network; ``Conditioned`` is the result."""

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
    sites. Right after this call the output is bit-identical to the network's. Call this after
    other changes of the network (PEFT, wrappers), since they rename modules. If the network is in
    evaluation mode, it stays in it and the generator is put into it.

    Args:
        network: any network; only hooks are added to it, which ``Conditioned.remove`` removes.
        at: the sites: a pattern of module names (``*`` within one component, ``**`` any number
            of components), a module type, a function ``(name, module) -> bool``, a
            ``Selection`` of this network, a sequence of these, or a mapping of these to the
            operation of each. Operations of a selection take precedence over ``operation``.
        operation: how the features are modulated, or its name ("film", "shift", "gate", ...; see
            ``operation_of``). Default: at a ``FiLM`` layer without a generator the operation of
            that layer, elsewhere FiLM (``Affine()``).
        generator: condition -> parameters: a ``Generator``, a ``LocalGenerator``, any module that
            returns a flat tensor or a ``TaskRepresentation``, or a function layout -> module. It
            is bound to the layout and moved to the device of the network.
        axis: feature axis at the sites. Default: found by the type of a layer, by running a copy
            of a norm, and for other modules by following features through the dry run. It is
            never guessed, and an axis that contradicts a norm is an error.
        batch_axis: batch axis at the sites. Default: found by type or in the dry run.
        example: inputs of the network, for a dry run on fake tensors: a tensor, a tuple of
            arguments, or a dict of keyword arguments. Needed for sites whose type does not
            determine their features, and for operations with position terms.
        when: "output" modulates the outputs of the modules, "input" their inputs.
        identity: raise if an operation has no identity.
        resize: how the raw parameters of a condition that varies over positions (a map, a
            sequence) are resized to the positions of each site: "nearest", "linear" or "area";
            see ``Site``. Default: other positions than those of the site are an error.
        freeze: train the generator only: no parameter of the network requires a gradient, until
            ``Conditioned.remove``.
        batch_norm: running statistics during training: "train" updates them as usual; "frozen"
            uses them without updates, even after a call of ``train()``. Default: "frozen" with
            ``freeze``, else "train".

    Returns:
        The conditioned network.

    Raises:
        LayoutError: a selector without a match, a site that is never run, an axis that is unknown
            or contradicts a norm, or an unknown ``resize``.
        CallError: a site in a network that was compiled before.
        OperationError: an operation without identity although ``identity`` is set, or an unknown
            name.
        ShapeError: features that do not fit the site or the operation.
        ArgumentTypeError: an argument of the wrong type.

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
    """The sites with information for display: class names, and the size of the network."""
    kinds = [type(network.get_submodule(site.name)).__name__ for site in sites]
    named = [
        dataclasses.replace(site, module=kind, resize=resize)
        for site, kind in zip(sites, kinds, strict=True)
    ]
    return Layout(tuple(named), count_parameters(network))


def _no_identity(layout: Layout) -> str:
    site = next(s for s in layout if not all(p.neutral for p in s.parameters.values()))
    return (
        f"{site.operation} at site '{site.name}' has no identity, so the conditioned network would "
        "not start equal to the network; choose another operation, or pass identity=False"
    )


def _bound(
    generator: nn.Module | Callable[[Layout], nn.Module], layout: Layout, network: nn.Module
) -> nn.Module:
    made = generator if isinstance(generator, nn.Module) else generator(layout)
    if not isinstance(made, nn.Module):
        raise ArgumentTypeError(
            f"generator must be a module or a function layout -> module, got {type(made).__name__}"
        )
    bind = getattr(made, "bind", None)
    if bind is not None:
        bind(layout)
        like = next(network.parameters(), None)
        if like is not None and like.device.type != "meta":
            made.to(like.device)
    return made


class Conditioned(nn.Module):
    """A conditioned network: backbone, generator and layout. Made by ``condition``.

    Other attributes are looked up on the backbone (``config``, ``device``, ``generate``, ...).
    Methods of the backbone take ``condition`` and the other arguments of ``using`` in addition to
    their own: ``net.generate(tokens, condition=z)``. The signature of ``forward`` is the
    backbone's, with ``condition`` and ``task`` added.

    Attributes:
        backbone: the network; its modules and state-dict keys are unchanged.
        generator: condition -> parameters.
        layout: the sites.
    """

    backbone: nn.Module
    generator: nn.Module
    _backbone_ref: saving.BackboneRef | None = None
    _frozen: tuple[str, ...] = ()
    _batch_norm: str = "train"
    _frozen_norms: tuple[RemovableHandle, ...] = ()  # hooks that freeze running statistics
    #: Read by the Trainer if a checkpoint lacks tensors; no key is left out on purpose.
    _keys_to_ignore_on_save: None = None
    #: Read by the Trainer: a quantised network has trainable parts attached.
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
        # `repeat` -> sites at which the samples of a run were checked.
        self._followed: dict[str | None, set[str]] = {}
        self._removed = False
        check_not_compiled(backbone, layout)
        self._handles: list[RemovableHandle] = [
            SiteHook(self._owner, site, index).attach(backbone.get_submodule(site.name))
            for index, site in enumerate(layout)
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
            self._frozen_norms = tuple(frozen.attach(norm) for norm in norms)

    def _follow_mode(self) -> None:
        """Take the mode of the backbone: in evaluation mode the whole must be deterministic."""
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
            condition: the input of the generator; one row per sample, or one for all.
            task: parameters instead of a condition: a ``TaskRepresentation`` or a flat tensor,
                ``(N,)``, ``(B, N)`` or ``(B, N, *positions)``.
            repeat: how B conditions map to k * B rows of features, separately at each site:
                "interleave" (the k rows of a condition follow each other: beams, sampled
                sequences, frames, tokens) or "tile" (all B rows, k times: ``cat([x, x])``).
            rows: index of the condition for each row of the features, ``(R,)`` integers, if rows
                are not samples (the tokens of an expert, the edges of a graph). One index for all
                sites, a mapping of patterns of site names to indices, or a function
                ``(site, features) -> index`` (None: one to one).
            **kwargs: keyword arguments of the backbone. If one has the name of an argument above,
                call the backbone within ``using`` instead.

        Returns:
            What the backbone returns.

        Raises:
            CallError: neither condition nor task although one is needed, or both; a site whose
                module was replaced.
            LayoutError: a task of another layout; invalid ``repeat`` or ``rows``; a condition per
                sample at a site whose rows are known not to be the samples.
            ShapeError: parameters that do not fit a site; the message names it.

        Warns:
            SiteWarning: a site was not reached and is not part of compiled code.
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
            CallError: if the generator is local: it needs the features of a run; see
                ``using(record=...)``.
        """
        if isinstance(self.generator, LocalGenerator):
            raise CallError(
                f"{type(self.generator).__name__} computes its parameters from the features of "
                "each site; run the network with using(condition=..., record=a_dict) instead"
            )
        if condition is None and self._conditional:
            raise CallError(_nothing_given(self.generator))
        made = self.generator(condition) if condition is not None else self.generator()
        if isinstance(made, TaskRepresentation):
            return self._own(made)
        if not isinstance(made, Tensor):
            raise ArgumentTypeError(
                f"{type(self.generator).__name__} must return a flat tensor or a "
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
        """Condition every run of the backbone within this block and this thread.

        Do not keep the block open across an ``await``: another coroutine that runs the network
        meanwhile raises.

        Args:
            condition: as in ``forward``.
            task: as in ``forward``.
            record: filled with the raw parameters of each site that is reached,
                ``{site: {parameter: tensor}}``; the latest if a site is reached twice.
            repeat: as in ``forward``; for ``generate`` with beams, "interleave".
            rows: as in ``forward``.
            partial: the block runs only a part of the network on purpose (an encoder, one row of an
                image); do not warn of sites that it does not reach.

        Raises:
            CallError: scopes that interleave; a site whose module was replaced.

        Warns:
            SiteWarning: a site was not reached in the block, or a run of the network called the
                module around it but not the site.
        """
        call = self._call(condition, task, record, RowMap.of(repeat, rows, self.layout))
        if not torch.compiler.is_compiling():
            watch_runs(self.backbone, self.layout, self._owner)
            call.watched = Watched(self._tracker)
        with calls.scope(call):
            yield self
        if call.grad and len(call.visited) < len(self.layout):
            calls.keep_hidden(call)
        # If nothing ran in this block, no site was missed, unless compiled code ran.
        if torch.compiler.is_compiling() or self._removed:
            return
        if call.visited or has_compiled_code(self.backbone, self.layout):
            missed = self._missed(call)
            if missed and not partial:
                warnings.warn(_never_reached(missed, "block"), SiteWarning, stacklevel=3)

    def replace_generator(self, generator: nn.Module | Callable[[Layout], nn.Module]) -> nn.Module:
        """Use another generator for the same sites: a bank, a control, a newly trained one.

        Args:
            generator: as in ``condition``.

        Returns:
            The previous generator.

        Raises:
            LayoutError: if the generator is bound to other sites.
            ArgumentTypeError: if it is neither a module nor a function that returns one.
        """
        before = self.generator
        self.generator = _bound(generator, self.layout, self.backbone)
        if not self.training:
            self.generator.eval()
        self._conditional = needs_condition(self.generator)
        return before

    def save_pretrained(self, folder: str | Path, *, statistics: bool = True) -> None:
        """Write the conditioner into a folder: everything except the backbone.

        Files: the generator's weights, the layout, the configuration of the generator, a
        fingerprint of the backbone and a model card. The folder is written atomically; equal
        conditioners give equal bytes.

        Args:
            folder: absent, empty, or an older conditioner, which is replaced.
            statistics: whether to write the running statistics of the backbone's batch norms, which
                training updates; loading then sets them. If not, the backbone must have equal
                statistics when the conditioner is loaded.

        Raises:
            SavingError: the folder cannot be written, or other files would be replaced.
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
        """Condition ``network`` with what ``save_pretrained`` wrote.

        Args:
            folder_or_repo: the folder; if there is none of that name, a repository of the
                Hugging Face hub.
            network: the backbone; changed as by ``condition``, and its batch norms receive the
                statistics that were saved.
            generator: the generator, unbound or bound to an equal layout, if it cannot be created
                from JSON. Its weights are overwritten.
            check: "weights" requires equal class, settings, tensors and values; "architecture"
                equal class, settings, names and shapes; "later" compares these now, and the
                values at the first eager call or by ``verify``, for a backbone whose checkpoint
                is loaded afterwards; "sites" compares only the names and shapes of the tensors in
                the modules at the sites (for a resized vocabulary, another head).
            freeze: as in ``condition``.
            batch_norm: as in ``condition``.

        Raises:
            SavingError: no such folder, damaged files, not a conditioner, or a generator that
                cannot be created from its configuration.
            FormatError: written by a later version.
            BackboneError: a different network; the message names the differences.
            ArgumentTypeError: an argument of the wrong type.
        """
        training.policy(batch_norm, freeze)
        loaded = saving.load(folder_or_repo, network, generator=generator, check=check)
        net = facade.plain_class(cls)(
            network, loaded.generator, loaded.layout, freeze=freeze, batch_norm=batch_norm
        )
        net._backbone_ref = loaded.backbone_ref
        net._handles += loaded.attach(network, net._owner)
        return net

    def verify(self) -> None:
        """Compare the backbone with the saved fingerprint, by the ``check`` of ``from_pretrained``.

        Raises:
            BackboneError: a different network; the message names the differences.
            SavingError: the conditioner was not made by ``from_pretrained``.
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
            repo: the repository, "owner/name"; created if it does not exist.
            statistics: as in ``save_pretrained``.
            private: whether a new repository is private.
            message: message of the commit.
            api: a ``huggingface_hub.HfApi``; default: one with default settings.

        Returns:
            The address of the repository.

        Raises:
            SavingError: ``huggingface_hub`` is not installed, or the upload fails.
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
        """Remove the hooks and return the backbone, bit-identical to what it was.

        Changes by training stay (weights that were not frozen, running statistics). ``freeze``
        and ``batch_norm`` no longer apply.
        """
        for handle in (*self._handles, *self._frozen_norms):
            handle.remove()
        self._handles.clear()
        unwatch_runs(self.backbone, self._owner)
        self._frozen_norms = ()
        self._removed = True
        training.thaw_parameters(self.backbone, self._frozen)
        self._frozen = ()
        if self._batch_norm == "frozen":
            self._batch_norm = "train"
            for norm in training.running_norms(self.backbone):
                norm.train(self.backbone.training)
        return self.backbone

    def print_trainable_parameters(self) -> None:
        """Print the number of trainable and of all parameters, of backbone and generator together.

        Raises:
            CallError: a lazy parameter that has no shape before the first run.
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

        The generator keeps its values. A generator on the meta device has none and is created
        again with its initial values; if it cannot be created from JSON (see
        ``save_pretrained``), ``reset_parameters`` of its modules is called.
        """
        self.backbone.to_empty(device=device, recurse=recurse)
        self.generator = saving.materialized(self.generator, self.layout, device)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """State of backbone and generator, as of any module.

        A tensor with several names (tied embeddings) is copied for all but the first, since
        safetensors, and so the trainers, do not accept names that share memory.
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
        # Trainers choose the loss by this name: causal language models shift their labels.
        backbone = self._modules.get("backbone")
        return type(backbone or self).__name__

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return facade.attribute(self, name)

    # Torch does not register a name that is already an attribute; hide those of the backbone.
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
        # __setstate__ generates the class with the backbone's signature again.
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
        """A tracker of the samples of this run; None once all sites were checked."""
        if call.parameters is None or call.parameters.flat.ndim < 2:
            return None
        if len(self._followed.get(_repeat(call), ())) == len(self.layout):
            return None
        tracker = start_tracking(call, inputs, self.layout)
        call.followed |= tracker is not None
        return tracker

    def _missed(self, call: Call) -> list[str]:
        """Sites that ``call`` did not reach, except those in compiled code.

        Raises:
            CallError: if the module of one was replaced, so that it can never be reached.
        """
        if call.followed:
            self._followed.setdefault(_repeat(call), set()).update(call.visited)
        if len(call.visited) == len(self.layout):
            return []
        check_attached(self.backbone, self.layout, self._owner)
        return [
            site.name
            for index, site in enumerate(self.layout)
            if site.name not in call.visited and not calls.was_traced(self._owner, index)
        ]

    def _task(self, condition: Any, task: TaskRepresentation | Tensor | None) -> TaskRepresentation:
        """The task representation of a condition or a task, checked."""
        if task is None:
            return self.represent(condition)
        if condition is not None:
            raise CallError("pass a condition or a task, not both")
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
                f"the task is for other sites: {', '.join(task.layout.names)}; "
                f"this network has {', '.join(self.layout.names)}"
            )
        return task

    def _after(self, call: Call, output: Any) -> None:
        """After a call: warn of sites that were not reached; keep the call for recomputation."""
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
        "was conditioned ignores its sites"
        + ("; using(partial=True) runs parts on purpose" if where == "block" else "")
    )


def _nothing_given(generator: nn.Module) -> str:
    return (
        f"{type(generator).__name__} needs a condition: call net(x, condition=...), or pass the "
        "parameters themselves, net(x, task=...)"
    )
