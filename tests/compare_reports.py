"""Reports of ``winnow compare`` for tests: a network of four layers, one of 53 with awkward names, one bare job."""

from typing import Any

import numpy as np

HOSTILE = "</title><script>document.title = 'broken'</script><img src=x onerror=\"document.title='broken'\">&amp;"
LONG = "features.block_with_a_very_long_module_path.17.depthwise_separable_convolution/BatchNorm/FusedActivation"
STALLS = {"program": 0.01, "activations": 0.03, "weights": 0.12, "drain": 0.02, "output": 0.06}


def run(cycles: int, macs: int, *, peak: int, rtl: bool = True, ranking: int | None = None,
        written: int = 4096) -> dict[str, Any]:
    """A run whose array is active for a part of its cycles, and whose bytes go with its multiplications."""
    stalls = {cause: int(cycles * share) for cause, share in STALLS.items()}
    read = {"activations": macs // 900 + 100, "weights": macs // 300 + 64, "parameters": 736}
    back = {"activations": written, "mask": 64}
    count = sum(read.values()) + sum(back.values())
    return {"source": "rtl" if rtl else "analytical", "cycles": cycles,
            "array_active_cycles": cycles - sum(stalls.values()) - 7 if rtl else None,
            "stall_cycles": stalls if rtl else None, "ranking_cycles": ranking, "bytes_read": read,
            "bytes_written": back, "bytes": count, "compulsory_bytes": int(count * 0.9),
            "utilization": macs / peak / cycles if macs else None}


def software(macs: dict[str, int], *, extrapolated: bool) -> dict[str, Any]:
    """Kernels at a few cycles a multiplication."""
    def cycles(count: float) -> dict[str, Any]:
        return {"cycles": int(count), "extrapolated": extrapolated,
                "simulated_cycles": int(count / 20) if extrapolated else int(count)}

    return {"dense": {"naive": cycles(11 * macs["dense"]), "blocked": cycles(6 * macs["dense"])},
            "sparse": {"indexed": cycles(11.4 * macs["sparse"]), "packed": cycles(6.3 * macs["sparse"] + 900)},
            "ranking": cycles(5000), "best_dense": "blocked", "best_sparse": "packed"}


def layer(name: str, operation: str, channels: int, winners: int, macs: int, *, peak: int = 256, rtl: bool = True,
          extrapolated: bool = False) -> dict[str, Any]:
    """A layer with everything; without multiplications (a pool) with nothing that needs them."""
    sparse = macs * winners // channels
    dense_cycles, sparse_cycles = macs // peak * 21 // 20 + 400, sparse // peak * 21 // 20 + 440
    engine = {"dense": run(dense_cycles, macs, peak=peak, rtl=rtl),
              "sparse": run(sparse_cycles, sparse, peak=peak, rtl=rtl, ranking=43)}
    ideal = channels / winners if macs else None
    speedup = dense_cycles / sparse_cycles
    counts = {"dense": macs, "sparse": sparse}
    kernels = software(counts, extrapolated=extrapolated) if macs else None
    return {"name": name, "operation": operation, "channels": channels, "winners": winners, "macs": counts,
            "engine": engine | {"speedup": speedup, "ideal": ideal, "exploitation": speedup / ideal if ideal else None},
            "software": kernels, **_against(kernels, engine),
            "scale_sim": {"os": dense_cycles + 99, "ws": 2 * dense_cycles} if macs else {"os": None, "ws": None},
            "host": {"float32": _times(macs / 5e10, 0.9), "int8": _times(macs / 2e11, 0.4)} if macs else None}


def total(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Layers in sum, with frames a second."""
    def added(parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: None if any(part[key] is None for part in parts)
                else added([part[key] for part in parts]) if isinstance(parts[0][key], dict)
                else "rtl" if key == "source" else sum(part[key] for part in parts) for key in parts[0]}

    counted = [one for one in layers if one["software"]]
    macs = added([one["macs"] for one in layers])
    engine = added([{run: one["engine"][run] for run in ("dense", "sparse")} for one in layers])
    for name, one in engine.items():
        one["utilization"] = macs[name] / 256 / one["cycles"]
    if any(one["engine"]["dense"]["source"] == "analytical" for one in layers):
        for one in engine.values():
            one |= {"source": "analytical", "array_active_cycles": None, "stall_cycles": None}
    speedup, ideal = engine["dense"]["cycles"] / engine["sparse"]["cycles"], macs["dense"] / macs["sparse"]
    kernels = software(macs, extrapolated=any(one["software"]["dense"]["naive"]["extrapolated"] for one in counted))
    whole = {"name": "total", "operation": None, "channels": None, "winners": None, "macs": macs,
             "engine": engine | {"speedup": speedup, "ideal": ideal, "exploitation": speedup / ideal},
             "software": kernels, **_against(kernels, engine),
             "scale_sim": added([one["scale_sim"] for one in counted]),
             "host": {"float32": _times(macs["dense"] / 5e10, 0.9), "int8": None}}
    whole["frames_per_second"] = {name: 1000 / value for name, value in whole["milliseconds"].items()}
    return whole


def report(network: str, layers: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A report of ``winnow compare``."""
    return {"winnow": "0.1.0", "command": f"winnow compare {network} --html compare.html", "seed": 0,
            "network": network, "weights_are_random": False,
            "engine": {"rows": 16, "cols": 16, "macs": 256, "axi_width": 128, "act_buffer_bytes": 131072,
                       "weight_buffer_bytes": 131072, "memory": "fast", "mhz": 79.2,
                       "mhz_source": "ULX3S-45F, placed and routed"},
            "core": {"name": "VexRiscv, RV32IM, 4 KiB caches", "mhz": 60.0, "mhz_source": "ULX3S-45F, assumed",
                     "compiler": "zig 0.17.1 (clang 21), -O3", "memory": "SRAM, 1 cycle"},
            "winner_statistics": None, "layers": layers, "total": fields.get("total") or total(layers)} | fields


def small() -> dict[str, Any]:
    """LeNet-4's four layers, with winner statistics."""
    shapes = [("conv1", "conv", 1, 1, 627_200), ("conv2", "conv", 32, 16, 10_035_200),
              ("fc1", "fully_connected", 64, 24, 3_211_264), ("fc2", "fully_connected", 1024, 163, 10_240)]
    rng = np.random.default_rng(1)
    frequency = {"conv1": np.linspace(1, 0, 32).round(3), "conv2": rng.beta(0.4, 0.6, 64),
                 "fc1": rng.beta(0.2, 1, 1024)}
    statistics = {name: {"channels": len(values), "mean": float(values.sum()), "quantiles": {"0.5": values.sum()},
                         "frequency": values.tolist()} for name, values in frequency.items()}
    return report("lenet4", [layer(*shape) for shape in shapes],
                  winner_statistics={"network": "lenet4", "source": "MNIST", "part": "test", "images": 10000,
                                     "layers": statistics})


def large() -> dict[str, Any]:
    """53 layers with long and hostile names, up to 10^9 multiplications each, most predicted and extrapolated."""
    layers = []
    for number in range(53):
        name = {7: LONG, 20: HOSTILE, 33: "W" * 120}.get(number, f"stage{number // 13 + 1}.block{number}.conv")
        kind = ("conv", "depthwise", "max_pool", "fully_connected")[min(number % 7, 3) if number % 7 < 3 else 0]
        macs = 0 if kind == "max_pool" else (number * 7919 % 53 + 1) ** 3 * 12_000 // (40 if kind == "depthwise" else 1)
        channels = 64 << number // 13
        layers.append(layer(name, kind, channels, max(1, channels * (number % 9 + 1) // 10), macs,
                            rtl=number % 5 == 0, extrapolated=macs > 3e8))
    frequency = {one["name"]: {"channels": one["channels"], "mean": one["winners"], "quantiles": {},
                               "frequency": np.random.default_rng(5).beta(0.5, 0.5, one["channels"]).tolist()}
                 for one in layers[::2]}
    return report("a_network_of_53_layers_with_awkward_names", layers, weights_are_random=True,
                  winner_statistics={"images": 50000, "layers": frequency})


def bare() -> dict[str, Any]:
    """A job alone, of which nothing is known but the model's prediction."""
    one = layer("JOB", "conv", 16, 8, 1_179_648, rtl=False)
    one |= {"software": None, "speedup_over_software": None, "host": None, "milliseconds": None,
            "scale_sim": {"os": None, "ws": None}}
    whole = one | {"name": "total", "frames_per_second": None}
    found = report("JOB.npz", [one], total=whole)
    found["engine"] |= {"mhz": None, "mhz_source": None}
    found["core"] |= {"mhz": None, "mhz_source": None}
    return found


def _times(dense: float, ratio: float) -> dict[str, float]:
    return {"dense_seconds": dense, "winners_seconds": dense / ratio, "packed_seconds": dense / 1.4, "ratio": ratio,
            "packed_ratio": 1.4}


def _against(kernels: dict[str, Any] | None, engine: dict[str, Any]) -> dict[str, Any]:
    """The engine against the best kernels, and the milliseconds of both."""
    if kernels is None:
        return {"speedup_over_software": None, "milliseconds": None}
    best = {run: kernels[run][kernels[f"best_{run}"]]["cycles"] for run in ("dense", "sparse")}
    best["sparse"] += kernels["ranking"]["cycles"]
    cycles = {run: engine[run]["cycles"] for run in best}
    return {"speedup_over_software": {run: best[run] / cycles[run] for run in best},
            "milliseconds": {"engine_dense": cycles["dense"] / 79_200, "engine_sparse": cycles["sparse"] / 79_200,
                             "software_dense": best["dense"] / 60_000, "software_sparse": best["sparse"] / 60_000}}
