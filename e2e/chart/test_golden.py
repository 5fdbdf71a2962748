"""What the chart makes of the values files in charts/epimetheus/ci, word for word. UPDATE_GOLDEN=1 writes it anew."""

import os
import pathlib
import unittest

import helm

GOLDEN = pathlib.Path(__file__).parent / "golden"


class Golden(unittest.TestCase):
    maxDiff = 4000

    def check(self, name):
        rendered = helm.render(helm.values_file(name))
        objects = sorted(rendered.objects, key=lambda o: (o["kind"], o["metadata"]["name"], o["metadata"].get("namespace", "")))
        for o in objects:  # a dashboard has its own test, and would be half of this file
            if o["kind"] == "ConfigMap" and "-dashboard-" in o["metadata"]["name"]:
                o["data"] = {key: "(as in files/dashboards)" for key in o["data"]}
        text = helm.yaml.dump_all(objects, sort_keys=True, width=140)
        file = GOLDEN / f"{name}.yaml"
        notes = GOLDEN / f"{name}.notes.txt"
        if os.environ.get("UPDATE_GOLDEN"):
            file.write_text(text)
            notes.write_text(rendered.notes)
        self.assertEqual(file.read_text(), text)
        self.assertEqual(notes.read_text(), rendered.notes)

    def test_default(self):
        self.check("default")

    def test_seed(self):
        self.check("seed")

    def test_production(self):
        self.check("production")

    def test_demo(self):
        self.check("demo")


if __name__ == "__main__":
    unittest.main()
