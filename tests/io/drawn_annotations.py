"""Small files of annotation tools."""

import json

from PIL import Image

H, W = 40, 60
LEFT, RIGHT = [5, 5, 25, 5, 25, 35, 5, 35], [35, 5, 55, 5, 55, 35, 35, 35]


def annotation(number, corners, image=1, **more):
    return {"id": number, "image_id": image, "category_id": number, "segmentation": [corners], **more}


def coco(path, annotations, pictures=1, **more):
    images = [{"id": i + 1, "file_name": f"{i:05d}.jpg", "height": H, "width": W} for i in range(pictures)]
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories, **more}))
    return path


def cvat(path, *images, tracks=""):
    path.write_text(
        f"<annotations><meta><original_size><width>{W}</width><height>{H}</height></original_size></meta>"
        f"{''.join(images)}{tracks}</annotations>"
    )
    return path


def polygon(label, corners, **more):
    points = ";".join(f"{x},{y}" for x, y in zip(corners[::2], corners[1::2], strict=True))
    said = "".join(f' {name}="{value}"' for name, value in more.items())
    return f'<polygon label="{label}" points="{points}"{said}></polygon>'


def yolo(folder, **labels):
    folder.mkdir()
    for stem, text in labels.items():
        (folder / f"{stem}.txt").write_text(text)
        Image.new("RGB", (W, H)).save(folder / f"{stem}.jpg")
    return folder


FRACTIONS = "0 0.1 0.1 0.4 0.1 0.4 0.9 0.1 0.9\n"
