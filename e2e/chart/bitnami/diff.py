"""What a change of values does to objects, in terms in which two charts can be compared."""

import json

# Where our chart has one more word than Bitnami's for the same thing.
RENAMED = {"-headless.": "."}
IGNORED = ("helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/name")


def flat(value, path, out):
    if isinstance(value, dict):
        if not value:
            out.add((path, "{}"))
        for key, inner in value.items():
            if key in IGNORED or key.startswith("checksum/") or inner is None or (key == "seLinuxOptions" and not inner):
                continue
            flat(inner, f"{path}/{key}", out)
    elif isinstance(value, list):
        named = value and all(isinstance(v, dict) and "name" in v for v in value)
        for inner in value:
            if named:
                flat(inner, f"{path}/{inner['name']}", out)
            elif isinstance(inner, dict):
                flat(inner, f"{path}/*", out)
            else:
                flat(inner, f"{path}/*", out)
    else:
        text = value if isinstance(value, str) else json.dumps(value)
        for old, new in RENAMED.items():
            text = text.replace(old, new)
        out.add((path, text.strip()))


def facts(objects):
    out = set()
    for o in objects:
        found = set()
        flat({k: v for k, v in o.items() if k not in ("apiVersion", "kind")}, "", found)
        out |= {(f"{o['kind']} {o['metadata']['name']}", *f) for f in found}
    return out


def change(before, after):
    """[op, object, path, value] of what came and what went."""
    a, b = facts(before), facts(after)
    return sorted([["+", *f] for f in b - a] + [["-", *f] for f in a - b])
