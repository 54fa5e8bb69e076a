"""The figure of classifiers of unseen letters."""

from __future__ import annotations

from PIL import Image

from featurewise.study.figures import BAR, as_image, figure
from featurewise.systems.name_metrics import Branches, chosen_threshold, curve, shares
from featurewise.worlds.glyphs.accents import AccentedLetters
from featurewise.worlds.glyphs.labelled import LabelledImages

CAPTION = (
    "Left: accuracy on unseen pairs over that on seen classes, by the threshold between "
    "them; dot: the one that is best on validation. Right: test images of unseen pairs, and "
    "the class that each is given; red: wrong."
)
_ROWS, _COLUMNS = 3, 6
"""Of unseen pairs in the figure."""


def draw_branches(
    validation: Branches,
    test: Branches,
    classes: AccentedLetters,
    images: LabelledImages,
) -> Image.Image:
    """The trade-off over the threshold, and unseen pairs with the class they are given."""
    threshold = chosen_threshold(validation, classes)
    plot = figure(8.0, 3.4)
    halves = plot.add_gridspec(1, 2, width_ratios=(1, 1.2))
    left, right = (plot.add_subfigure(halves[0, column]) for column in range(2))
    axes = left.subplots()
    _, seen, unseen = zip(*curve(test, classes), strict=True)
    axes.plot([100 * x for x in seen], [100 * y for y in unseen], color=BAR)
    _, at_seen, at_unseen = shares(test, classes, threshold)
    axes.plot(100 * at_seen, 100 * at_unseen, "o", color=BAR)
    ends = (0, 100)
    axes.set(xlabel="accuracy, seen (%)", ylabel="accuracy, unseen (%)")
    axes.set(xlim=ends, ylim=ends)
    axes.spines[["top", "right"]].set_visible(False)
    grid = list(right.subplots(_ROWS, _COLUMNS).flat)
    predicted = test.predicted(threshold).tolist()
    for axes, label in zip(grid, classes.unseen("test"), strict=False):
        row = int((test.labels == label).nonzero()[0, 0])
        axes.imshow(images.images[row].numpy(), cmap="gray_r", vmin=0, vmax=255)
        colour = "black" if predicted[row] == label else BAR
        axes.set_title(classes.letters[predicted[row]], color=colour)
    for axes in grid:
        axes.set_axis_off()
    return as_image(plot)
