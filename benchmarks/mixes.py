"""Ways to choose a mix, beside each other: all damages, fewer windows, groups, local errors.

Out: for each stock mix's bytes, the mean KLD of each choice on windows of the pool that no damage
was measured on, in memory, and its paired difference from the choice by all damages; and, for one
window, how well sums of damages predict the divergence, beside a second-order form with all cross
terms.

In: a folder of results in which the mixes were made, and the names of model and imatrix.
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import record
import yaml
from peer import HOUSE

sys.path.insert(0, str(HOUSE / "scripts"))

from quern.gguf_files import ModelInfo
from quern.llama import Way
from quern.measure import statistics
from quern.measure.baseline import scored_positions
from quern.mix import damage, errors, proof, search
from quern.mix.editing import Editor
from quern.mix.inputs import Inputs
from quern.tokens.windows import read_tokens
from quern.tokens.work import Work

POSITIONS = 128  # of the window, for the second-order form


def by_groups(measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Damages as a product of one factor a role and one a layer, from sums over each."""
    places = {n: (re.sub(r"blk\.\d+\.", "", n), re.findall(r"blk\.(\d+)", n)) for n in measured}
    inside = {n: (role, layer[0]) for n, (role, layer) in places.items() if layer}
    total = sum(measured[n].mean() for n in inside)
    role, layer = (
        {g: sum(measured[n].mean() for n, p in inside.items() if p[k] == g) for g in set(groups)}
        for k, groups in enumerate(zip(*inside.values(), strict=True))
    )
    product = {n: np.array([role[p[0]] * layer[p[1]] / total]) for n, p in inside.items()}
    return {n: v.mean(keepdims=True) for n, v in measured.items()} | product


def by_local_error(inputs: Inputs, names: list[str]) -> dict[str, np.ndarray]:
    """The weighted squared error of each tensor in its probe, whatever it costs."""
    found = {}
    for name in names:
        source, weights = inputs.sources[name], inputs.importances.get(name)
        values = source.float32(0, min(source.rows, 2048)).astype(np.float64)
        h = 1.0 if weights is None else weights[: source.columns].astype(np.float64)
        found[name] = np.array([(h * values**2).sum() * source.rows / len(values)])
    return found


def mixes_of(free, budget, damages: dict) -> dict[str, dict[str, str]]:
    """A mix for each way to know damages."""
    return {name: search.choose(free, own, budget) for name, own in damages.items()}


def compare(editor, inputs, free, plans, measured, ratios, windows, folder, kinds) -> str:
    """The first table."""
    names = [t.name for t in free]
    kept = {n: k for n, k in next(iter(plans.values())).items() if n not in set(names)}
    local = by_local_error(inputs, names)
    # Local errors are e · Σ h w², of which the ratios know e over that of the probe.
    probe = {t.name: errors.relative_errors(
        t, inputs.sources[t.name], inputs.importances.get(t.name),
        [(errors.probe_type(t.columns), "ggml")]) for t in free}  # fmt: skip
    local = {n: local[n] * next(iter(probe[n].values())) for n in names}
    ways = {"all windows, each tensor": measured}
    for n in (1, 2):
        ways[f"{n} windows"] = {k: v[:n] for k, v in measured.items()}
    ways |= {"role × layer": by_groups(measured), "local error": local}
    damages = {name: search.Damages(own, ratios) for name, own in ways.items()}
    table = pd.DataFrame(index=[*damages, "stock"])
    for kind in kinds:
        budget = search.plan_bytes(plans[kind], inputs.tensors)
        mixes = mixes_of(free, budget - search.plan_bytes(kept, inputs.tensors), damages)
        mixes["stock"] = {n: plans[kind][n] for n in names}
        figures = proof.measure(editor, mixes, windows, folder)
        found = {k: statistics.Sample(v).replicates for k, v in figures.items()}
        first = found["all windows, each tensor"]
        table[kind] = pd.Series({name: cell(own, first) for name, own in found.items()})
    return table.to_markdown(disable_numparse=True)


def cell(own, first) -> str:
    """A mean KLD, and how far it is from that of the choice by all damages."""
    kld, base = (sample.values["kld_mean"] for sample in (own, first))
    value, low, high = (100 * x / base for x in own.difference(first, "kld_mean"))
    return f"{kld:.5f}, {value:+.1f} % ({low:+.1f} to {high:+.1f})"


def predict(editor, inputs, plans, measured, ratios, window) -> str:
    """The second table."""
    names = list(measured)
    first, last = scored_positions(len(window), "half")
    editor.become({})
    base = editor.logits(window, first, last)
    p = np.exp(base - base.max(1, keepdims=True).astype(np.float64))
    p /= p.sum(1, keepdims=True)
    rows = np.random.default_rng(0).permutation(len(base))[:POSITIONS]
    changes = []
    for name in names:
        editor.become({name: errors.probe_type(inputs.sources[name].columns)})
        change = editor.logits(window, first, last)[rows] - base[rows].astype(np.float64)
        change -= (p[rows] * change).sum(1, keepdims=True)
        changes.append((np.sqrt(p[rows]) * change).astype(np.float32).ravel())
    gram = np.array([[a @ b for b in changes] for a in changes]) / (2 * len(rows))
    scale = np.sqrt(np.diag(gram))
    cosines = (gram / np.outer(scale, scale))[np.triu_indices(len(names), 1)]
    lines = [
        f"Cosines of changes: mean {cosines.mean():.4f}, deviation {cosines.std():.4f}.\n",
        "| mix | KLD | over the sum | over second order |\n| --- | ---: | ---: | ---: |",
    ]
    logs = []
    for kind, plan in plans.items():
        if not all(plan[n] in ratios[n] for n in names):
            continue
        editor.become({n: plan[n] for n in names})
        found = editor.figures(base, window, first, last)["kld"].mean()
        root = np.sqrt([ratios[n][plan[n]] for n in names])
        added = sum(measured[n][0] * ratios[n][plan[n]] for n in names)
        logs.append(np.log([found / added, found / (root @ gram @ root)]))
        by_sum, by_order = np.exp(logs[-1])
        lines.append(f"| {kind} | {found:.5f} | {by_sum:.2f} | {by_order:.2f} |")
    mean, deviation = np.mean(logs, 0), np.std(logs, 0, ddof=1)
    lines.append(f"\nLogarithms of both: mean {mean.round(3)}, deviation {deviation.round(3)}.")
    return "\n".join(lines)


def main(arguments):
    folder = arguments.results / arguments.model
    models = yaml.safe_load(arguments.config.read_text())["models"]
    imatrix = folder / f"imatrix/{arguments.imatrix}.gguf"
    inputs = Inputs.read(
        Path(models[arguments.model]), ModelInfo.read(folder / "model.json"), imatrix
    )
    stores = sorted((folder / f"mix/damage/{arguments.imatrix}").rglob("*.h5"))
    ratios = errors.read(folder / f"mix/errors/{arguments.imatrix}/ggml^0.json", inputs)
    pool = read_tokens(folder / f"tokens/{arguments.imatrix}.pool.h5")
    work = Work(inputs.model, inputs.info, pool, 512)
    used, measured, _ = damage.read(stores, inputs, work)
    others = [w for w in damage.windows_of(work).tolist() if w not in used]
    held_back = work.windows(sorted(others[: arguments.windows]))[:]
    plans = search.stock_plans(inputs)
    with (
        work.opened(Way(threads=arguments.threads), "editable") as model,
        Editor(model, inputs.sources, inputs.importances) as editor,
    ):
        common = inputs, inputs.free(), plans, measured, ratios
        found = compare(editor, *common, held_back, folder, arguments.kinds)
        record.show(found, "mixes", "mixes", record=arguments.record)
        if arguments.second_order:
            own = {name: values[:1] for name, values in measured.items()}
            window = work.windows(used[:1])[:][0]
            found = predict(editor, inputs, plans, own, ratios, window)
            record.show(found, "mixes", "mixes second order", record=arguments.record)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--results", type=Path, default=Path("results"))
    p.add_argument("--config", type=Path, required=True, help="the configuration of the results")
    p.add_argument("--model", required=True)
    p.add_argument("--imatrix", required=True)
    p.add_argument("--kinds", nargs="+", default=["Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M"])
    p.add_argument("--windows", type=int, default=24)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--second-order", action="store_true", help="the second table as well")
    record.add_option(p)
    main(p.parse_args())
