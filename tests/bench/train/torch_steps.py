#!/usr/bin/python3
"""Times training steps of a Darknet cfg in PyTorch, eager, as `espalier-train bench`
does its own: the same layers, batch and optimiser, random images in memory.
Prints one JSON object.

    torch_steps.py CFG --batch N --steps K --threads T --format contiguous|channels_last --precision f32|bf16
"""
import argparse
import contextlib
import json
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

WARM_UP = 3
BATCHES = 4


def read_cfg(path):
    sections = []
    for line in open(path):
        line = line.split('#')[0].strip()
        if line.startswith('['):
            sections.append((line[1:-1], {}))
        elif line:
            key, value = line.split('=', 1)
            sections[-1][1][key.strip()] = value.strip()
    return sections[0][1], [s for s in sections[1:] if s[0] not in ('prune', 'slice', 'softmax', 'cost')]


def activate(name, x):
    if name == 'linear':
        return x
    if name == 'relu':
        return F.relu(x, inplace=True)
    if name == 'relu6':
        return F.relu6(x, inplace=True)
    if name == 'leaky':
        return F.leaky_relu(x, 0.1, inplace=True)
    raise ValueError('activation ' + name)


class Network(nn.Module):
    def __init__(self, net, sections):
        super().__init__()
        self.modules_of, self.steps, self.multiply_adds = nn.ModuleList(), [], 0
        c, h, w = int(net['channels']), int(net['height']), int(net['width'])
        shapes = []
        for index, (kind, o) in enumerate(sections):
            size, stride = int(o.get('size', 1)), int(o.get('stride', 1))
            module, inputs = nn.Identity(), [index - 1]
            if kind == 'convolutional':
                filters, groups = int(o['filters']), int(o.get('groups', 1))
                pad = int(o.get('padding', 0)) if not int(o.get('pad', 0)) else size // 2
                norm = int(o.get('batch_normalize', 0))
                module = nn.Sequential(nn.Conv2d(c, filters, size, stride, pad, groups=groups, bias=not norm),
                                       *([nn.BatchNorm2d(filters)] if norm else []))
                h, w = (h + 2 * pad - size) // stride + 1, (w + 2 * pad - size) // stride + 1
                self.multiply_adds += h * w * filters * size * size * (c // groups)
                c = filters
            elif kind == 'connected':
                norm = int(o.get('batch_normalize', 0))
                module = nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, int(o['output']), bias=not norm),
                                       *([nn.BatchNorm1d(int(o['output']))] if norm else []))
                self.multiply_adds += c * h * w * int(o['output'])
                c, h, w = int(o['output']), 1, 1
            elif kind == 'maxpool':
                pad = int(o.get('padding', size - 1))
                if pad % 2:
                    raise ValueError('a maxpool with a one-sided border')
                module = nn.MaxPool2d(size, stride, pad // 2)
                h, w = (h + pad - size) // stride + 1, (w + pad - size) // stride + 1
            elif kind == 'avgpool':
                module, h, w = nn.AdaptiveAvgPool2d(1), 1, 1
            elif kind == 'dropout':
                module = nn.Dropout(float(o.get('probability', .5)))
            elif kind == 'shortcut':
                inputs.append(self.absolute(int(o['from']), index))
            elif kind == 'route':
                inputs = [self.absolute(int(i), index) for i in o['layers'].split(',')]
                c, h, w = sum(shapes[i][0] for i in inputs), *shapes[inputs[0]][1:]
            else:
                raise ValueError('layer ' + kind)
            shapes.append((c, h, w))
            self.modules_of.append(module)
            self.steps.append((kind, inputs, o.get('activation', 'linear' if kind != 'convolutional' else 'logistic')))
        # A tensor is let go behind its last reader.
        self.last_reader = {}
        for index, (_, inputs, _) in enumerate(self.steps):
            for i in inputs:
                self.last_reader[i] = index

    @staticmethod
    def absolute(i, index):
        return i if i >= 0 else index + i

    def forward(self, x):
        out = {-1: x}
        for index, (kind, inputs, activation) in enumerate(self.steps):
            x = [out[i] for i in inputs]
            if kind == 'route':
                y = x[0] if len(x) == 1 else torch.cat(x, 1)
            elif kind == 'shortcut':
                y = activate(activation, x[0] + x[1])
            else:
                y = activate(activation, self.modules_of[index](x[0]))
            for i in inputs:
                if self.last_reader[i] == index:
                    out.pop(i, None)
            out[index] = y
        return out[len(self.steps) - 1].flatten(1)


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
