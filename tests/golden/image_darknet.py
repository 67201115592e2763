#!/usr/bin/python3
"""Makes image_darknet.txt with Debian's darknet package:

    apt-get install darknet python3-numpy
    tests/golden/image_darknet.py > tests/golden/image_darknet.txt

One case a line: operation, input c h w, arguments, then the output's values.
Input value number i is ((i * 2654435761) mod 2^32 >> 8) / 2^24."""
import ctypes
import numpy as np


class Image(ctypes.Structure):
    _fields_ = [("w", ctypes.c_int), ("h", ctypes.c_int), ("c", ctypes.c_int),
                ("data", ctypes.POINTER(ctypes.c_float))]


darknet = ctypes.CDLL("/usr/lib/darknet/libdarknet.so")
CASES = [
    ("resize_image", (3, 5, 4), (7, 6)),
    ("resize_image", (1, 23, 31), (5, 4)),
    ("resize_image", (3, 6, 6), (6, 6)),
    ("resize_image", (1, 1, 9), (4, 3)),
    ("resize_image", (1, 14, 2), (3, 12)),  # rounding: a dark last row
    ("letterbox_image", (3, 12, 16), (8, 8)),
    ("letterbox_image", (1, 17, 9), (10, 8)),
    ("center_crop_image", (3, 9, 14), (6, 6)),
    ("crop_image", (1, 4, 5), (-2, -1, 9, 7)),
    ("crop_image", (3, 6, 7), (3, 4, 6, 4)),
]
for name, shape, args in CASES:
    i = np.arange(np.prod(shape), dtype=np.uint64)
    data = (((i * 2654435761) % 2**32 >> 8) / 2**24).astype(np.float32)
    image = Image(shape[2], shape[1], shape[0], data.ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
    function = getattr(darknet, name)
    function.restype = Image
    out = function(image, *args)
    values = np.ctypeslib.as_array(out.data, (out.c * out.h * out.w,))
    print(name, *shape, *args, *["%.9g" % v for v in values])
