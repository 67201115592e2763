"""A Darknet cfg as a PyTorch module, for the benchmarks."""
import torch
import torch.nn as nn
import torch.nn.functional as F


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


class Crop(nn.Module):
    """Darknet's, when it does not train."""

    def __init__(self, h, w):
        super().__init__()
        self.h, self.w = h, w

    def forward(self, x):
        top, left = (x.shape[2] - self.h) // 2, (x.shape[3] - self.w) // 2
        return x[:, :, top:top + self.h, left:left + self.w] * 2 - 1


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
                out = (h + pad - size) // stride + 1, (w + pad - size) // stride + 1
                if pad % 2 and out == ((h - size) // stride + 1, (w - size) // stride + 1):
                    pad = 0  # its last column is never reached
                if pad % 2:
                    raise ValueError('a maxpool with a one-sided border')
                module = nn.MaxPool2d(size, stride, pad // 2)
                h, w = out
            elif kind == 'avgpool':
                module, h, w = nn.AdaptiveAvgPool2d(1), 1, 1
            elif kind == 'crop':
                h, w = int(o['crop_height']), int(o['crop_width'])
                module = Crop(h, w)
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
