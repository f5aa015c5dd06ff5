"""A PyTorch module as a list of operator calls, through torch.export: without side effects, constants computed."""

import warnings
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind
from torch.fx import Node

from golden.checks import JobError, check
from golden.dasnet.winners import as_baseline

_LIBRARY = torch.library.Library("winnow", "DEF")
_LIBRARY.define("output_of(Tensor x, str path) -> Tensor")
_LIBRARY.impl("output_of", lambda x, path: x.clone(), "CompositeExplicitAutograd")
OUTPUT_OF = "winnow.output_of"
"""The operator that marks its argument ``x`` as the output of the submodule ``path``, and passes it on."""
_SHORT_NAMES = {"_native_batch_norm_legit_no_training": "batch_norm"}


@dataclass(frozen=True, eq=False)
class Call:
    """One operator call of an exported module; ``constants`` are the tensors of the graph that no image changes."""

    node: Node
    constants: dict[Node, Tensor]

    @property
    def operator(self) -> str:
        """The name as in ``torch.ops.aten``: "conv2d"; that of other libraries with the library's before it."""
        target = self.node.target
        if not isinstance(target, torch._ops.OpOverload):
            return getattr(target, "__name__", str(target))
        library, name = target._schema.name.split("::")
        return _SHORT_NAMES.get(name, name) if library == "aten" else f"{library}.{name}"

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The arguments by the names of the operator's schema, with its defaults; tensors are nodes of the graph."""
        schema = self.node.target._schema.arguments
        stated = {argument.name: value for argument, value in zip(schema, self.node.args, strict=False)}
        return {argument.name: argument.default_value for argument in schema} | stated | self.node.kwargs

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the (first) output, that of the batch included."""
        value = self.node.meta["val"]
        return tuple((value if isinstance(value, Tensor) else value[0]).shape)

    @property
    def path(self) -> str:
        """The submodule whose code makes the call; "" for the module itself."""
        return self._caller[0]

    @property
    def is_whole_module(self) -> bool:
        """Whether that submodule is one of torch.nn's, so that its path says what is called."""
        return self._caller[1].startswith("torch.nn.modules.")

    @property
    def _caller(self) -> tuple[str, str]:
        path, kind = list(self.node.meta["nn_module_stack"].values())[-1]
        return path, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"

    @property
    def place(self) -> str:
        """How errors name the caller."""
        return f"module {self.path}" if self.path else "module"

    def check(self, condition: bool, name: str, expected: str, got: object) -> None:
        """Raise a JobError that names the caller and the operator unless ``condition`` holds."""
        check(condition, f"{self.place}: {self.operator}{name and ' '}{name}", expected, got)

    def tensor(self, name: str) -> Tensor | None:
        """An argument that is a tensor of the module, as float32 on the CPU; None where none is given.

        Raises JobError for one that depends on the input.
        """
        node = self.arguments[name]
        if node is None:
            return None
        self.check(node in self.constants, name, "a tensor of the module", "one that is computed from the input")
        return self.constants[node].detach().cpu().float()


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported module: its ``input``, the ``calls`` in order and its ``output``, all of them nodes of one graph."""

    input: Node
    calls: tuple[Call, ...]
    output: Node
    batch: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The sizes of the input, without that of the batch."""
        return tuple(self.input.meta["val"].shape[1:])


def export(module: nn.Module, example: Tensor, known: Container[str]) -> Exported:
    """The operator calls of ``module`` in evaluation mode, without winners, for inputs like ``example`` float [N, ...].

    Where operators are not ``known``, as those that work in place are not, all are taken apart as far as PyTorch does.
    The output of each submodule is marked by a call of :data:`OUTPUT_OF`. The module is left as it was. Raises
    JobError, in one line, for a module that torch.export cannot trace, or of more than one input or output.
    """
    check(isinstance(module, nn.Module), "module", "an nn.Module", type(module).__name__)
    fits = isinstance(example, Tensor) and example.is_floating_point() and example.ndim >= 2 and len(example) >= 1
    check(fits, "example_input", "one float tensor [N, ...]",
          f"{example.dtype} {list(example.shape)}" if isinstance(example, Tensor) else type(example).__name__)
    example = example[:1].repeat(2, *[1] * (example.ndim - 1))  # Of a batch of one, squeeze() would drop the batch.
    with as_baseline(module), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of torch's own insides.
        with _reported("one that takes example_input"):
            module(example)
        with _marked(module), _reported("one that torch.export can trace"):
            program = torch.export.export(module, (example,))
            if not all(call.operator in known for call in _read(program).calls):
                program = program.run_decompositions({})
    return _read(program)


@contextmanager
def _reported(expected: str) -> Iterator[None]:
    """Inside, errors become a JobError of one line: torch raises what a module's code does, and classes of its own."""
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise JobError(f"module: expected {expected}, got: {reason[0]}") from error


@contextmanager
def _marked(module: nn.Module) -> Iterator[None]:
    """Inside, every submodule of ``module`` passes its output through :data:`OUTPUT_OF`."""
    def mark(path: str):
        return lambda _, __, output: (torch.ops.winnow.output_of(output, path) if isinstance(output, Tensor) else None)

    hooks = [part.register_forward_hook(mark(path)) for path, part in module.named_modules() if path]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _read(program: torch.export.ExportedProgram) -> Exported:
    tensors = {**program.state_dict, **program.constants}
    constants: dict[Node, Tensor] = {}
    inputs, calls, output = [], [], None
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    needed = set()
    for node in reversed(program.graph.nodes):
        if node.op == "output" or not needed.isdisjoint(node.users):
            needed.add(node)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = specs[node.name]
            if spec.kind == InputKind.USER_INPUT:
                inputs.append(node)
            else:
                constants[node] = tensors.get(spec.target)
        elif node.op == "output":
            output = node.args[0]
        elif all(source in constants for source in node.all_input_nodes) and node.op == "call_function":
            constants[node] = _computed(node, constants)
        elif node in needed:
            calls.append(Call(node, constants))
    check(len(inputs) == 1, "module", "one input", len(inputs))
    single = isinstance(output, (tuple, list)) and len(output) == 1 and isinstance(output[0], Node)
    check(single, "module", "one tensor as output", f"{len(output)} values" if output else "none")
    return Exported(input=inputs[0], calls=tuple(calls), output=output[0], batch=inputs[0].meta["val"].shape[0])


def _computed(node: Node, constants: dict[Node, Tensor]) -> Any:
    """The value of a call that takes nothing but constants, as torch computes it."""
    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), constants.__getitem__)
    with torch.no_grad():
        return node.target(*args, **kwargs)
