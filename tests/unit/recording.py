"""A CUDA graph's rules on a CPU: operations are repeated on the memory that they were recorded on."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# operations that make the host wait for a GPU: bool(), int() or tolist() of a tensor, positions of what is true
ASKS_THE_HOST = {"is_nonzero", "item", "_local_scalar_dense", "resolve_conj", "nonzero", "masked_select", "equal"}


class Recording(TorchDispatchMode):
    """Operations, each with its very arguments and outputs."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, output))
        return output

    def asked(self):
        """How often the host waited."""
        return sum(func.overloadpacket.__name__ in ASKS_THE_HOST for func, *_ in self.operations)

    def repeat(self):
        for func, args, kwargs, output in self.operations:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(output), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def record(made):
    """Takes the place of graph_decoding.recorded; what it records is added to `made`."""

    def recorded(work, _):
        work()
        recording = Recording()
        with recording:
            output = work()
        made.append(recording)

        def repeat():
            recording.repeat()
            return output

        return repeat

    return recorded
