"""What the tests of pictures measure: one panel, and parts that overlap."""

import itertools


def panel(picture, page, row, column):
    """Cut a panel out of the picture of a page."""
    left, bottom, width, height = page.box_of_panel(row, column)
    rows, columns = picture.shape[:2]
    top = round((1 - bottom - height) * rows)
    return picture[top : top + round(height * rows), round(left * columns) : round((left + width) * columns), :3]


def overlapping(figure):
    """Find the parts of a page that lie on another, or not on the page."""
    parts = [*figure.axes, *figure.texts]
    boxes = {f"{part}": part.get_tightbbox() for part in parts}
    page = figure.bbox
    outside = [name for name, box in boxes.items() if not (page.x0 < box.x0 and page.y0 < box.y0)]
    outside += [name for name, box in boxes.items() if not (box.x1 < page.x1 and box.y1 < page.y1)]
    return outside + [(a, b) for a, b in itertools.combinations(boxes, 2) if boxes[a].overlaps(boxes[b])]
