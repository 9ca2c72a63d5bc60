"""Charts of the page, as Vega-Lite specifications. Colours of text and lines are those of the page
around them (`currentColor`), so that light, dark and printed pages need no charts of their own."""

import pandas as pd

CONFIG = {
    "background": None,
    "view": {"stroke": None},
    "font": "inherit",
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "domainColor": "currentColor",
        "tickColor": "currentColor",
        "gridColor": "currentColor",
        "gridOpacity": 0.15,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 12,
    },
    "legend": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "orient": "bottom",
        "labelFontSize": 12,
        "titleFontWeight": "normal",
        "symbolStrokeColor": "currentColor",
        "columns": 3,
        "columnPadding": 24,
    },
}
# What can be filtered by, and what it is called.
FILTERS = {"imatrix": "imatrix", "rounding": "rounding", "made": "made"}
_SHAPES = ["circle", "diamond", "square", "triangle-up", "cross", "triangle-down"]


def divergence_against_size(frame: pd.DataFrame) -> dict:
    """Mean KLD with its interval against size; what is told of a recipe under the pointer.

    Args:
        frame: recipe, imatrix, rounding, made (`here` or `elsewhere`), size (MB), kld_mean,
            kld_mean_low, kld_mean_high, front (whether no recipe that is no larger is credibly
            better), named (`left` or `right` in the picture; empty where no name is shown), and the
            texts of `TOLD`.
    """
    told = [{"field": name, "title": title} for name, title in TOLD.items() if name in frame]
    shown = frame[frame.kld_mean > 0]  # the axis is logarithmic
    filters = {name: label for name, label in FILTERS.items() if shown[name].nunique() > 1}
    size = {"field": "size", "type": "quantitative", "title": "size of the file (MB)"}
    size["scale"] = {"type": "log", "nice": False, "padding": 24}
    size["axis"] = {"tickCount": 6, "format": "~s" if shown["size"].max() >= 1e4 else "~f"}
    log = {"type": "log", "nice": False, "padding": 16}
    kld = {"field": "kld_mean", "type": "quantitative", "scale": log}
    kld |= {"title": "mean KLD (nats)", "axis": {"format": "~g", "tickCount": 6}}
    color = {"field": "imatrix", "type": "nominal", "scale": {"scheme": "tableau10"}}
    shape_of = "made" if "made" in filters else "rounding"
    shape = {"field": shape_of, "type": "nominal", "scale": {"range": _SHAPES}}
    if shown[shape_of].nunique() < 2:
        shape = {"value": "circle"}
    if shown.imatrix.nunique() < 2:
        color |= {"legend": None}
    is_front = {"filter": "datum.front"}
    layers = [
        {
            "transform": [is_front],
            "mark": {
                "type": "line",
                "color": "currentColor",
                "opacity": 0.35,
                "strokeDash": [4, 3],
            },
            "encoding": {"x": size, "y": kld},
        },
        {
            "mark": {"type": "rule", "opacity": 0.7, "strokeWidth": 2},
            "encoding": {
                "x": size,
                "y": {"field": "kld_mean_low", "type": "quantitative"},
                "y2": {"field": "kld_mean_high"},
                "color": color,
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {"x": size, "y": kld, "color": color, "shape": shape, "tooltip": told},
        },
        *(_names(side, size, kld) for side in ("left", "right")),
    ]
    return {
        "width": "container",
        "height": 420,
        "config": CONFIG,
        "data": {"values": shown.to_dict("records")},
        "params": [
            {
                "name": f"only_{name}",
                "value": "all",
                "bind": {
                    "input": "select",
                    "name": f"{label} ",
                    "options": ["all", *sorted(shown[name].unique())],
                },
            }
            for name, label in filters.items()
        ],
        "transform": [
            {"filter": f"only_{name} == 'all' || datum.{name} == only_{name}"} for name in filters
        ],
        "layer": layers,
    }


def _names(side, size, kld):
    """Names of recipes to the right of the left points, and to the left of the right ones."""
    to_the_right = side == "left"
    mark = {"type": "text", "fontSize": 11, "color": "currentColor", "tooltip": None}
    mark |= (
        {"align": side, "dx": 8, "dy": -8} if to_the_right else {"align": side, "dx": -9, "dy": 9}
    )
    return {
        "transform": [{"filter": f"datum.named == '{side}'"}],
        "mark": mark,
        "encoding": {"x": size, "y": kld, "text": {"field": "recipe"}},
    }


# What is told of a recipe under the pointer: the field, its title.
TOLD = {
    "recipe": "recipe",
    "made": "made",
    "size_text": "size",
    "kld_mean_text": "mean KLD",
    "score_text": "score",
    "ppl_ratio_text": "PPL ratio",
    "speed_text": "generation",
}


def growth(result: dict) -> dict:
    """The score of each step of a growth against its calibration tokens.

    Args:
        result: `growth.decision.choose`'s.
    """
    chosen = result["decision"]["chosen"]
    rows = [
        {
            "tokens": step["tokens"],
            "type": kind,
            "score": figures["score"]["value"],
            "low": figures["score"]["low"],
            "high": figures["score"]["high"],
            "step": f"{step['step']}{' (chosen)' if step['step'] == chosen else ''}",
            "chosen": step["step"] == chosen,
        }
        for step in result["steps"]
        for kind, figures in step["figures"].items()
    ]
    tokens = {"field": "tokens", "type": "quantitative", "title": "calibration tokens"}
    tokens |= {
        "scale": {"type": "log", "nice": False, "padding": 16},
        "axis": {"format": "~s", "tickCount": 5},
    }
    score = {"field": "score", "type": "quantitative", "title": "score (nats)"}
    score |= {"scale": {"zero": False}, "axis": {"minExtent": 40}}
    color = {"field": "type", "type": "nominal", "scale": {"scheme": "tableau10"}}
    if len({row["type"] for row in rows}) < 2:
        color["legend"] = None
    told = [{"field": name} for name in ("step", "tokens", "type", "score", "low", "high")]
    return {
        "width": "container",
        "height": 260,
        "config": CONFIG,
        "data": {"values": rows},
        "layer": [
            {"mark": "line", "encoding": {"x": tokens, "y": score, "color": color}},
            {
                "mark": "rule",
                "encoding": {
                    "x": tokens,
                    "y": {"field": "low", "type": "quantitative"},
                    "y2": {"field": "high"},
                    "color": color,
                },
            },
            {
                "mark": {"type": "point", "filled": True},
                "encoding": {
                    "x": tokens,
                    "y": score,
                    "color": color,
                    "size": {
                        "condition": {"test": "datum.chosen", "value": 220},
                        "value": 70,
                    },
                    "tooltip": told,
                },
            },
        ],
    }
