#!/usr/bin/python3
"""Times training steps of a Darknet cfg in PyTorch, eager, as `espalier-train bench`
does its own: the same layers, batch and optimiser, random images in memory.
Prints one JSON object.

    torch_steps.py CFG --batch N --steps K --threads T --format contiguous|channels_last --precision f32|bf16
"""
import argparse
import contextlib
import json
import pathlib
import statistics
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from torch_net import Network, read_cfg  # noqa: E402

WARM_UP = 3
BATCHES = 4


def main():
    p = argparse.ArgumentParser()
    p.add_argument('cfg')
    p.add_argument('--batch', type=int, required=True)
    p.add_argument('--steps', type=int, default=20)
    p.add_argument('--threads', type=int, required=True)
    p.add_argument('--format', choices=['contiguous', 'channels_last'], default='contiguous')
    p.add_argument('--precision', choices=['f32', 'bf16'], default='f32')
    a = p.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(a.threads)
    net, sections = read_cfg(a.cfg)
    model = Network(net, sections).train()
    layout = torch.channels_last if a.format == 'channels_last' else torch.contiguous_format
    model = model.to(memory_format=layout)
    weights = [q for q in model.parameters() if q.dim() > 1]
    others = [q for q in model.parameters() if q.dim() <= 1]
    optimizer = torch.optim.SGD([{'params': weights, 'weight_decay': float(net.get('decay', 1e-4))},
                                 {'params': others, 'weight_decay': 0}], lr=1e-4,
                                momentum=float(net.get('momentum', .9)), nesterov=bool(int(net.get('nesterov', 0))))
    shape = (a.batch, int(net['channels']), int(net['height']), int(net['width']))
    classes = model(torch.rand(2, *shape[1:])).shape[1]
    images = [torch.rand(shape).to(memory_format=layout) for _ in range(BATCHES)]
    labels = [torch.randint(min(classes, 256), (a.batch,)) for _ in range(BATCHES)]

    seconds = []
    for step in range(WARM_UP + a.steps):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        mixed = torch.autocast('cpu', dtype=torch.bfloat16) if a.precision == 'bf16' else contextlib.nullcontext()
        with mixed:
            logits = model(images[step % BATCHES])
            loss = F.cross_entropy(logits.float(), labels[step % BATCHES])
        loss.backward()
        optimizer.step()
        if not loss.item() < 1e4:
            raise SystemExit('the loss is %g' % loss.item())
        if step >= WARM_UP:
            seconds.append(time.perf_counter() - began)
    peak = [int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')][0]
    print(json.dumps({
        'images_per_s': a.batch / statistics.median(seconds), 'median_ms': 1e3 * statistics.median(seconds),
        'min_ms': 1e3 * min(seconds), 'peak_mib': peak / 1024, 'multiply_adds': model.multiply_adds,
        'parameters': sum(q.numel() for q in model.parameters()), 'torch': torch.__version__,
    }))


main()
