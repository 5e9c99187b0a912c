"""How long a click takes, and what it takes, on a 512 x 512 x 300 scan with the bundled model.

    python tests/benchmarks/click_speed.py [--clicks 20] [--threads 2] [--engine openvino] [--against] [--precision ...]

Prints seconds of wall and processor time of `segment` (the bar is a p95 of 0.5 s on two idle cores; on a busy machine
compare processor seconds divided by threads), the most memory used beyond the scan (bar 1 GiB), and the seconds of the
first click in a fresh process, torch's import included (bar 4 s). --against also runs one pass of nnU-Net's ResEnc-L
architecture on 192 x 192 x 192 with random weights, in 32 and 16 bits (minutes; pip install --no-deps
dynamic_network_architectures): a click is to be 100 and 40 times as fast. --engine says what answers, whatever was
found to be faster on this machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import psutil

SHAPE = (300, 512, 512)
AFFINE = np.array([[0, 0, -0.8, 200], [0, -0.8, 0, 200], [1.0, 0, 0, -150], [0, 0, 0, 1]], float)
FIRST = """
import time; start, cpu = time.perf_counter(), time.process_time()
import numpy as np, napari_medseg as ms
z, y, x = np.ogrid[:60, :200, :200]
data = (100 * ((z - 30) ** 2 + (y - 100) ** 2 + (x - 100) ** 2 < 400)).astype(np.int16)
volume = ms.Volume(data, np.diag([-1.0, -1.0, 1.0, 1.0])[[2, 1, 0, 3]])
made = time.perf_counter() - start
mask = ms.load_model().segment(volume, [ms.Click(tuple(map(float, volume.position_of((30, 100, 100)))))])
assert mask.data.any()
print(time.perf_counter() - start, time.process_time() - cpu)
"""


class Peak:
    """The most memory that the process has held, watched from a thread."""

    def __init__(self) -> None:
        self._process, self._stop = psutil.Process(), threading.Event()
        self.start = self.most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.most = max(self.most, self._process.memory_info().rss)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()


def scan():
    """A large noisy scan with lesions of many sizes; and where they are."""
    import napari_medseg as ms

    rng = np.random.default_rng(0)
    data = rng.integers(-20, 20, SHAPE, dtype=np.int16)
    centres = []
    for radius in (3, 6, 12, 25, 50):
        for _ in range(2):
            centre = rng.integers(60, np.array(SHAPE) - 60)
            cut = tuple(slice(c - radius, c + radius + 1) for c in centre)
            ball = sum(g.astype(float) ** 2 for g in np.ogrid[(slice(-radius, radius + 1),) * 3]) <= radius**2
            data[cut][ball] += 80
            centres.append(centre)
    return ms.Volume(data, AFFINE), centres


def clicks_on(volume, centres, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Wall and processor seconds of first clicks and of corrections, and the most memory beyond the scan, in MiB."""
    import napari_medseg as ms

    model = ms.load_model(device="cpu")
    rng = np.random.default_rng(1)
    wall, cpu = [], []
    first = ms.Click(tuple(map(float, volume.position_of(centres[0]))))
    model.segment(volume, [first])
    with Peak() as peak:
        for k in range(n):
            clicks, mask = [], None
            for step in range(3):
                index = centres[k % len(centres)] + (rng.integers(-3, 4, 3) if step else 0)
                clicks.append(ms.Click(tuple(map(float, volume.position_of(index))), positive=step != 2))
                start, start_cpu = time.perf_counter(), time.process_time()
                mask = model.segment(volume, clicks, previous=mask)
                wall.append(time.perf_counter() - start)
                cpu.append(time.process_time() - start_cpu)
    return np.array(wall), np.array(cpu), (peak.most - peak.start) / 2**20


def first_click() -> tuple[float, float]:
    """Wall and processor seconds of the first click in a fresh process."""
    environment = {**os.environ, "NAPARI_MEDSEG_SELF_TEST": "off"}
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True, env=environment)
    wall, cpu = done.stdout.split()
    return float(wall), float(cpu)


def use(engine: str) -> None:
    """Let one engine answer in this process, in the precision that suits the processor."""
    from napari_medseg.segmentation.speed import guess, keep

    os.environ["NAPARI_MEDSEG_HOME"] = tempfile.mkdtemp()
    keep("cpu", guess("cpu").model_copy(update={"engine": engine}))


def nnunet_pass(precision: str) -> tuple[float, float] | None:
    """Wall and processor seconds of one pass of ResEnc-L on 192 voxels a side; None where it is not installed."""
    import torch

    try:
        from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
    except ImportError:
        return None
    network = ResidualEncoderUNet(
        input_channels=1,
        n_stages=6,
        features_per_stage=(32, 64, 128, 256, 320, 320),
        conv_op=torch.nn.Conv3d,
        kernel_sizes=3,
        strides=(1, 2, 2, 2, 2, 2),
        n_blocks_per_stage=(1, 3, 4, 6, 6, 6),
        num_classes=2,
        n_conv_per_stage_decoder=(1, 1, 1, 1, 1),
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    ).eval()
    x = torch.zeros(1, 1, 192, 192, 192)
    start, start_cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        network(x)
    return time.perf_counter() - start, time.process_time() - start_cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=10, help="lesions, each with three clicks")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--against", action="store_true", help="also run nnU-Net's architecture: minutes")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--engine", default="torch", choices=["torch", "openvino"])
    options = parser.parse_args()
    os.environ["NAPARI_MEDSEG_SELF_TEST"] = "off"
    use(options.engine)
    print("first click, fresh process, import included: {:.2f} s, {:.2f} s of processor".format(*first_click()))
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    wall, cpu, memory = clicks_on(*scan(), options.clicks)
    print(f"{len(wall)} clicks on {'x'.join(map(str, SHAPE))}, {torch.get_num_threads()} threads:")
    for name, seconds in (("wall", wall), ("processor", cpu)):
        print(f"  {name:9s} p50 {np.median(seconds):.3f} s   p95 {np.quantile(seconds, 0.95):.3f} s")
    print(f"  most memory beyond the scan and the model: {memory:.0f} MiB")
    if not options.against:
        return
    for precision in options.precision:
        found = nnunet_pass(precision)
        if found is None:
            print("skipped: pip install --no-deps dynamic_network_architectures")
            return
        times = found[1] / np.median(cpu)
        took = f"{found[0]:.1f} s, {found[1]:.1f} s of processor"
        print(f"  nnU-Net ResEnc-L, 192^3, {precision}: {took}, as long as {times:.0f} clicks")
    print(f"  most memory of all: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
