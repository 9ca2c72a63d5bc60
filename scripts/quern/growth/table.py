"""The steps of a growth as a table, for the reader."""

import numpy as np
import pandas as pd


def table(result: dict) -> str:
    """The steps as Markdown."""
    rows = []
    for step in result["steps"]:
        gain = step["gains"][-1] if step["gains"] else None
        row = {"step": step["step"], "windows": step["windows"], "tokens": f"{step['tokens']:,}"}
        for kind, figures in step["figures"].items():
            f = figures["score"]
            row[f"{kind} score"] = f"{f['value']:.5f} [{f['low']:.5f}, {f['high']:.5f}]"
            row[f"{kind} KLD"] = f"{figures['kld_mean']['value']:.6f}"
        row["gain"] = "" if gain is None else _percent(gain)
        noise = step["noise_median"]
        row["imatrix noise"] = "" if noise is None else f"{noise:.2%}"
        row[""] = "chosen" if step["step"] == result["decision"]["chosen"] else ""
        rows.append(row)
    body = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    chosen = result["steps"][result["decision"]["chosen"]]
    return (
        f"{body}\n\nStopped: {result['decision']['reason']}. Chosen: step "
        f"{result['decision']['chosen']}, {chosen['tokens']:,} tokens, the smallest that is not "
        f"credibly worse than the best (step {result['decision']['best']}).\n"
        f"Scores over {chosen['evaluation_windows']} evaluation windows; gain: by how much the "
        "step lowers the score of the one before. All intervals are 95 %.\n"
    )


def _percent(gain: dict) -> str:
    value, low, high = (-np.expm1(-gain[key]) for key in ("value", "low", "high"))
    return f"{value:.2%} [{low:.2%}, {high:.2%}]"
