"""Classify every image below a folder and count the answers. Needs the device install only."""

import argparse
from collections import Counter
from pathlib import Path

from kdedge import Classifier, KdedgeError
from kdedge.data.folder import find_images
from kdedge.runtime.models import default_model


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--model", help="an .onnx file, a run directory or a name of the zoo")
    given = options.parse_args()

    path, why = default_model(given.model)
    classifier = Classifier(path)
    print(f"{classifier.card.name}, {why}: {', '.join(classifier.card.labels)}")
    counts: Counter[str] = Counter()
    for image in find_images(given.folder):
        try:
            (prediction,) = classifier.predict(image, top=1)
        except KdedgeError as error:  # one bad file does not stop the others
            print(f"left out: {error}")
            continue
        print(f"{image}  {prediction.label}  {prediction.probability:.1%}")
        counts[prediction.label] += 1
    for label, count in counts.most_common():
        print(f"{count:6d} {label}")


if __name__ == "__main__":
    main()
