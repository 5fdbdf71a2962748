#!/usr/bin/env python3
"""Writes changes.json anew from a copy of Bitnami's chart: `EPIMETHEUS_BITNAMI_CHART=folder e2e/chart/bitnami/record.py`.

The chart is fetched by whoever runs this (bitnami/thanos 17.6.0 with its charts/ folder filled); nothing of it is kept but which fields
of which objects a value changes.
"""

import json
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import helm  # noqa: E402
from changes import BASE, CHANGES  # noqa: E402
from diff import change  # noqa: E402


def main():
    chart = helm.chart(pathlib.Path(os.environ["EPIMETHEUS_BITNAMI_CHART"]))

    def render(values):
        return helm.Rendered(chart.render(values, name="thanos", namespace="kube-monitoring")).objects

    base = render(BASE)
    recorded = []
    for key, value in CHANGES:
        objects = {}
        for op, name, path, what in change(base, render(helm.overlay(BASE, helm.nested(key, value)))):
            objects.setdefault(name, []).append([op, path, what])
        recorded.append({"key": key, "value": value, "change": objects})
    (HERE / "changes.json").write_text("[\n" + ",\n".join(json.dumps(r, sort_keys=True) for r in recorded) + "\n]\n")


if __name__ == "__main__":
    main()
