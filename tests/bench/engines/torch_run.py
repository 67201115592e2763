#!/usr/bin/python3
"""PyTorch's side: a whole network of a cfg with random weights, batch norm folded,
frozen and optimised for inference by TorchScript, in both memory formats.

    torch_run.py CFG THREADS

"ready"; then each line on standard input, a number of passes, is answered by two
numbers: milliseconds of the network, contiguous and channels last. Medians.
"""
import pathlib
import statistics
import sys
import time
import warnings

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from torch_net import Network, read_cfg  # noqa: E402

warnings.filterwarnings('ignore')
torch.set_num_threads(int(sys.argv[2]))
torch.manual_seed(1)
net, sections = read_cfg(sys.argv[1])
shape = (1, int(net['channels']), int(net['height']), int(net['width']))
variants = []
with torch.inference_mode():
    for layout in torch.contiguous_format, torch.channels_last:
        model = Network(net, sections).eval().to(memory_format=layout)
        image = torch.rand(shape).to(memory_format=layout)
        expected = model(image)
        fast = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, image)))
        for _ in range(3):
            worst = (fast(image) - expected).abs().max() / expected.abs().max()
        if not worst < 1e-3:
            sys.exit('the optimised network is off by %g' % worst)
        variants.append((fast, image))
    print('ready', flush=True)
    for line in sys.stdin:
        medians = []
        for fast, image in variants:
            ms = []
            for _ in range(int(line)):
                began = time.perf_counter()
                fast(image)
                ms.append(1e3 * (time.perf_counter() - began))
            medians.append(statistics.median(ms))
        print('%.6f %.6f' % tuple(medians), flush=True)
