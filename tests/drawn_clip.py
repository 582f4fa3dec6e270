"""Short clips drawn with exact masks: discs that wander over a textured background."""

import av
import numpy as np
import torch

COLOURS = ((220, 60, 40), (40, 90, 230), (250, 220, 60))


def drawn_clip(num_frames, height=64, width=96, num_objects=1, seed=0):
    """Returns frames, uint8 [T 3 H W], and the objects' masks, bool [T K H W]; later objects hide earlier ones."""
    rng = np.random.default_rng(seed)
    background = rng.integers(0, 256, (height, width, 3)).astype(np.float32)
    background = (background + np.roll(background, 1, 0) + np.roll(background, 1, 1)) / 3
    y, x = np.mgrid[:height, :width]
    frames = np.repeat(background[None].astype(np.uint8), num_frames, 0)
    masks = np.zeros((num_frames, num_objects, height, width), bool)
    radius = min(height, width) / 5
    for k in range(num_objects):
        start, speed = rng.uniform(0.25, 0.75, 2) * (height, width), rng.uniform(-0.03, 0.03, 2) * (height, width)
        for t in range(num_frames):
            centre = start + t * speed
            disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
            masks[t, :, disc] = False
            masks[t, k] = disc
            frames[t][disc] = np.array(COLOURS[k]) * (0.7 + 0.3 * rng.random((disc.sum(), 1)))
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks)


def write_video(path, frames):
    """Writes frames as a video whose file states only about how many there are."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[1:], "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame.permute(1, 2, 0).numpy(), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path
