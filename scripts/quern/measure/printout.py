"""The figures of a comparison in the layout of `llama-perplexity --kl-divergence`."""

# Heading, label, figure, factor, decimals, unit, as tools/perplexity/perplexity.cpp prints them.
_PPL = [
    ("Mean PPL(Q)", "ppl", 1, 6, ""),
    ("Mean PPL(base)", "ppl_base", 1, 6, ""),
    ("Cor(ln(PPL(Q)), ln(PPL(base)))", "ppl_correlation", 100, 2, "%"),
    ("Mean ln(PPL(Q)/PPL(base))", "ln_ppl_ratio", 1, 6, ""),
    ("Mean PPL(Q)/PPL(base)", "ppl_ratio", 1, 6, ""),
    ("Mean PPL(Q)-PPL(base)", "ppl_difference", 1, 6, ""),
]
_ORDER = ("max", "p99.9", "p99", "p95", "p90", "p75", "median", "p25", "p10", "p5", "p1", "p0.1")
_NAMES = {"max": "Maximum", "median": "Median", "min": "Minimum"}


def _percentiles(figure: str, symbol: str, factor: float, decimals: int, unit: str, skip=()):
    rows = [(f"Mean    {symbol}", f"{figure}_mean", factor, decimals, unit)]
    for place in (*_ORDER, "min"):
        if place not in skip:
            name = _NAMES.get(place) or f"{float(place[1:]):4.1f}%"
            rows.append((f"{name:<7} {symbol}", f"{figure}_{place}", factor, decimals, unit))
    return rows


_SECTIONS = {
    "Perplexity statistics": _PPL,
    "KL divergence statistics": _percentiles("kld", "KLD", 1, 6, "", ("p75", "p25")),
    "Token probability statistics": [
        *_percentiles("dp", "Δp", 100, 3, " %"),
        ("RMS Δp", "dp_rms", 100, 3, " %"),
        ("Same top p", "same_top", 100, 3, " %"),
    ],
    "Composite score": [("Score", "score", 1, 6, "")],
}


def text(result: dict) -> str:
    """What llama-perplexity prints, and a 95 % interval behind each figure that has one.

    Args:
        result: the summary of a comparison.
    """
    lines = [
        f"{result['windows']} windows, {result['positions']} positions. ± as llama-perplexity has "
        "it, as if positions were independent; [ ] is the 95 % interval over windows."
    ]
    provenance = result["provenance"]
    own, other = (provenance.get(key) for key in ("computed_by", "baseline_computed_by"))
    if own != other:
        lines.append(f"Computed by {own}; the baseline by {other or 'a build that is not known'}.")
    if provenance.get("clipped"):
        lines.append("The baseline was imported: its log-probabilities are clipped 16-bit numbers.")
    for heading, rows in _SECTIONS.items():
        width = max(len(label) for label, *_ in rows)
        lines += ["", f"====== {heading} ======"]
        for label, name, factor, decimals, unit in rows:
            lines.append(
                f"{label:<{width}}: {_figure(result['figures'][name], factor, decimals, unit)}"
            )
    return "\n".join(lines) + "\n"


def _figure(figure: dict, factor: float, decimals: int, unit: str) -> str:
    def number(key):
        return f"{factor * figure[key]:{decimals + 4}.{decimals}f}"

    plus_minus = f" ± {number('plus_minus')}" if "plus_minus" in figure else ""
    interval = f"   [{number('low')}, {number('high')}]" if "low" in figure else ""
    return f"{number('value')}{plus_minus}{unit}{interval}"
