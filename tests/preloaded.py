"""What the process imports from which `tests.programs` forks: most of what programs need."""

import gc

import torch
import torch._dynamo  # noqa: F401, which the first optimizer imports
import torchmetrics.functional.audio  # noqa: F401

import inference  # noqa: F401
import train  # noqa: F401

torch.set_num_threads(1)
gc.collect()
gc.freeze()  # so that a collection neither visits nor copies it
