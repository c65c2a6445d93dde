"""Measures an artifact that was compiled elsewhere: loading, first call, steady calls, new weights.

    python -m benchmarks.artifact build --workload flux --target cuda:90 --out flux.eff
    python -m benchmarks.artifact package --workload flux --out flux.pt2
    python -m benchmarks.artifact measure --workload flux --artifact flux.eff --out F-artifact.json

`build` needs no GPU and leaves the weights out, so that the file is small enough to be carried.
`measure` makes the weights from their seed, stores them with the artifact, and loads that in a new
process beside AOTInductor's package of the same model, which is built on the spot (`--no-aoti`
leaves it out; `--aoti` takes one that `package` made before). Then it times weight loading beside
safetensors alone, and swapping adapters.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import effcomp
from benchmarks.measure import GIB, distance, first_tensor, versions_here
from benchmarks.schema import ArtifactResult, LoraSwap, Package, Times, WeightLoading, write
from benchmarks.workloads import WORKLOADS, Workload, build
from effcomp.plan.container import read_artifact
from effcomp.runtime.opening import open_weights

__all__ = ["main"]

ROOT = Path(__file__).parents[1]
CALLS, ROUNDS, RANK = 20, 3, 16
CHILD_SECONDS = 240


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    wait()
    start = time.perf_counter()
    found = work()
    wait()
    return time.perf_counter() - start, found


# Building.


def build_artifact(workload: str, target: str, out: Path, tiny: bool) -> None:
    """Compile for a target that this machine need not have, and save without the weights."""
    made = build(workload, "cpu", tiny)
    seconds, model = timed(lambda: effcomp.compile(made.module, (), made.inputs, targets=[target]))
    model.save(out, weights="omit")
    kernels = len(read_artifact(out).cubins[target])
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB, {kernels} kernels, {seconds:.1f} s")


def build_aoti(workload: Workload, out: Path) -> float:
    """AOTInductor's package of the same model, with its weights. Seconds that it took."""
    with torch.no_grad():
        program = torch.export.export(workload.module, (), workload.inputs, strict=False)
        seconds, _ = timed(
            lambda: torch._inductor.aoti_compile_and_package(program, package_path=str(out))  # pyright: ignore[reportAttributeAccessIssue]
        )
    return seconds


# Loading and calling, in a new process.


def child(kind: str, package: Path, workload: str, device: str, tiny: bool) -> dict[str, Any]:
    """Load a package and call it; the model was built and run eagerly before, to compare with."""
    made = build(workload, device, tiny)
    with torch.no_grad():
        truth = first_tensor(made.module(**made.inputs)).clone()
    inputs = made.inputs
    del made
    load: Callable[[], Any] = (
        (lambda: effcomp.load(package, device))
        if kind == "effcomp"
        else (lambda: torch._inductor.aoti_load_package(str(package)))  # pyright: ignore[reportAttributeAccessIssue]
    )
    load_seconds, model = timed(load)
    first_seconds, output = timed(lambda: model(**inputs))
    error = distance(first_tensor(output), truth)
    for _ in range(3):
        model(**inputs)
    samples = [timed(lambda: model(**inputs))[0] * 1e3 for _ in range(CALLS)]
    return {
        "load_seconds": round(load_seconds, 4),
        "first_seconds": round(first_seconds, 4),
        "error": error,
        "times": _times(samples).model_dump(),
        "compiled": [n for n in model.notes if "compiled" in n] if kind == "effcomp" else [],
    }


def _times(samples: Sequence[float]) -> Times:
    return Times(
        median=round(statistics.median(samples), 4),
        minimum=round(min(samples), 4),
        maximum=round(max(samples), 4),
        calls=len(samples),
    )


def measure_package(
    kind: Any, package: Path, arguments: argparse.Namespace, build_seconds: float | None
) -> Package:
    command = [sys.executable, "-X", "faulthandler", "-m", "benchmarks.artifact", "child"]
    command += ["--kind", kind]
    command += ["--package", str(package), "--workload", arguments.workload]
    command += ["--device", arguments.device, *(["--tiny"] if arguments.tiny else [])]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=CHILD_SECONDS
    )
    if run.returncode != 0:
        why = f"exit status {run.returncode}: {run.stderr[-600:]}"  # negative: a signal's number
        return Package(kind=kind, status="failed", why=why)
    return Package(
        kind=kind,
        status="ok",
        build_seconds=None if build_seconds is None else round(build_seconds, 2),
        file_gib=round(package.stat().st_size / GIB, 4),
        **json.loads(run.stdout.splitlines()[-1]),
    )


# Weights.


def measure_loading(package: Path, weights: Path, device: torch.device) -> WeightLoading:
    """Both ways in turns; the files were just written, and lie in the page cache."""
    artifact = read_artifact(package)
    size = weights.stat().st_size / GIB
    best = {"effcomp": float("inf"), "safetensors": float("inf")}
    for _ in range(ROUNDS):
        for name, load in (
            ("safetensors", lambda: load_file(weights, device=str(device))),
            ("effcomp", lambda: open_weights(artifact, device)),
        ):
            seconds, held = timed(load)
            del held
            best[name] = min(best[name], seconds)
    rates = {name: round(size / seconds, 3) for name, seconds in best.items()}
    return WeightLoading(gib=round(size, 4), rounds=ROUNDS, **rates)


def adapter(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """A pair for every linear of an attention, as diffusers spells it."""
    random = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear) and "attn" in name:
            for half, shape in (("A", (RANK, part.in_features)), ("B", (part.out_features, RANK))):
                found[f"transformer.{name}.lora_{half}.weight"] = 0.02 * torch.randn(
                    shape, generator=random
                )
    return found


def merge(module: nn.Module, pairs: dict[str, Tensor], scale: float) -> nn.Module:
    made = copy.deepcopy(module)
    with torch.no_grad():
        for name in (n.removesuffix(".lora_A.weight") for n in pairs if ".lora_A." in n):
            weight: Any = made.get_submodule(name.removeprefix("transformer.")).weight
            a, b = (pairs[f"{name}.lora_{half}.weight"].to(weight.device) for half in "AB")
            weight.copy_((b @ a).mul_(scale).add_(weight))
    return made


def measure_lora(package: Path, workload: Workload, device: str) -> LoraSwap:
    model = effcomp.load(package, device)
    inputs = workload.inputs

    def call() -> Tensor:
        return first_tensor(model(**inputs))

    base = call().clone()
    call()
    steady = statistics.median(timed(call)[0] for _ in range(CALLS))
    pairs = [
        {name: tensor.to(device) for name, tensor in adapter(workload.module, seed).items()}
        for seed in (1, 2)
    ]
    first, _ = timed(lambda: model.set_lora(pairs[0], 0.8))
    after, _ = timed(call)
    following, _ = timed(lambda: model.set_lora(pairs[1], 0.8))
    found = call().clone()
    removal, _ = timed(lambda: model.set_lora(None))
    restored = torch.equal(call(), base)
    fresh = effcomp.compile(merge(workload.module, pairs[1], 0.8), (), inputs)
    return LoraSwap(
        weights=len(pairs[0]) // 2,
        rank=RANK,
        first=round(first, 4),
        next=round(following, 4),
        removal=round(removal, 4),
        call_after=round(after * 1e3, 3),
        steady=round(steady * 1e3, 3),
        difference=distance(found, first_tensor(fresh(**inputs))),
        restored=restored,
    )


# The run.


def measure(arguments: argparse.Namespace) -> ArtifactResult:
    """Everything, in the order of its worth; what was measured is written after every part."""
    device = torch.device(arguments.device)
    workload = build(arguments.workload, arguments.device, arguments.tiny)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, package = folder / "weights.safetensors", folder / "model.eff"
        save_file({k: v.contiguous() for k, v in workload.module.state_dict().items()}, weights)
        effcomp.load(arguments.artifact, device, weights=weights).save(package)
        result = ArtifactResult(
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            device=torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
            kind="cuda" if device.type == "cuda" else "cpu",
            tiny=arguments.tiny,
            versions=versions_here(),
            workload=arguments.workload,
            built_with=_versions_of(arguments.artifact),
            packages=(),
        )

        def add(**fields: Any) -> None:
            nonlocal result
            result = result.model_copy(update=fields)
            write(result, arguments.out)
            print({k: str(v)[-700:] for k, v in fields.items()}, flush=True)

        add(packages=(measure_package("effcomp", package, arguments, None),))
        add(loading=measure_loading(package, weights, device))
        add(lora=measure_lora(package, workload, arguments.device))
        add(packages=(*result.packages, _aoti(workload, folder / "model.pt2", arguments)))
    return result


def _versions_of(artifact: Path) -> dict[str, str]:
    built = read_artifact(artifact).manifest.versions
    return {"effcomp": built.effcomp, "torch": built.torch, "triton": built.triton}


def _aoti(workload: Workload, package: Path, arguments: argparse.Namespace) -> Package:
    if arguments.no_aoti:
        return Package(kind="aotinductor", status="skipped", why="--no-aoti")
    if arguments.aoti is not None:
        return measure_package("aotinductor", arguments.aoti, arguments, None)
    try:
        seconds = build_aoti(workload, package)
    except Exception as error:  # noqa: BLE001 - a peer's failure is what the result reports
        return Package(
            kind="aotinductor", status="failed", why=f"{type(error).__name__}: {error}"[:300]
        )
    return measure_package("aotinductor", package, arguments, seconds)


def main(argv: Sequence[str] | None = None) -> ArtifactResult | None:
    """Build, measure, or (in a process of its own) load and call."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("build", "package", "measure", "child"):
        command = commands.add_parser(name)
        command.add_argument("--workload", choices=sorted(WORKLOADS), default="flux")
        command.add_argument("--tiny", action="store_true", help="a shrunken model, to try the run")
        if name != "child":
            command.add_argument("--out", type=Path, required=True)
        if name == "build":
            command.add_argument("--target", default="cuda:90")
        else:
            command.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
        if name == "measure":
            command.add_argument("--artifact", type=Path, required=True)
            command.add_argument("--no-aoti", action="store_true")
            command.add_argument("--aoti", type=Path, help="a package that is there already")
        if name == "child":
            command.add_argument("--kind", choices=("effcomp", "aotinductor"), required=True)
            command.add_argument("--package", type=Path, required=True)
    arguments = parser.parse_args(argv)
    match arguments.command:
        case "build":
            build_artifact(arguments.workload, arguments.target, arguments.out, arguments.tiny)
        case "package":
            made = build(arguments.workload, arguments.device, arguments.tiny)
            print(f"{arguments.out}: {build_aoti(made, arguments.out):.1f} s")
        case "measure":
            return measure(arguments)
        case _:
            kind, package = arguments.kind, arguments.package
            found = child(kind, package, arguments.workload, arguments.device, arguments.tiny)
            print(json.dumps(found))
    return None


if __name__ == "__main__":
    main()
