"""Real video with masks, the same with pasted objects, and video made from photographs: one folder, fixed shares."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.clip_augment import NewLooks, Screens
from mnemask.datasets.clips import ClipSource, Mixture
from mnemask.datasets.composite.clips import CompositeClips, CompositeRecipe
from mnemask.datasets.pasted_clips import PastedClips
from mnemask.datasets.shrunk_masks import SHRUNK
from mnemask.datasets.stcn_augment import AffineJitter, VideoAugmentation, ZoomAugmentation
from mnemask.datasets.video_clips import VideoClips
from mnemask.datasets.video_sets import open_video_folders
from mnemask.errors import InputError, listed

log = logging.getLogger(__name__)

# Videos of davis2016_train that are never trained on, so that they can be used to select weights and policies.
SELECTION = ("bus", "dance-jump", "drift-turn", "mallard-fly", "motocross-bumps", "scooter-gray")


@dataclass(frozen=True, slots=True)
class VideoFolder:
    """A set of videos in `video_train`, `NAME/{frames,masks}`.

    Attributes:
        name: name of the set's folder.
        share: relative share of the real clips; the set's videos are equally likely.
        frame_step: number of video frames per file.
        single_object: whether everything that a mask shows is one object.
        guests: whether the masks are exact enough to cut out objects.
    """

    name: str
    share: float
    frame_step: int
    single_object: bool = False
    guests: bool = False

    def open(self, root: Path) -> list[AnnotatedVideo]:
        """Returns the set's videos from the folder `video_train`; raises InputError if one is incomplete."""
        videos = open_video_folders(root / self.name, self.single_object)
        return [replace(video, shrunk=SHRUNK.get(self.name)) for video in videos]


VIDEO_FOLDERS = (
    VideoFolder("davis2016_train", 0.75, 2, single_object=True, guests=True),
    VideoFolder("davis2017_schoolgirls", 0.06, 1, guests=True),
    VideoFolder("omnimatte", 0.09, 3, guests=True),
    VideoFolder("cdnet_instances", 0.05, 2),
    VideoFolder("segtrack_bmx_bike", 0.02, 1),
    VideoFolder("segtrack_youtubeobj", 0.03, 1),
)


@dataclass(frozen=True, slots=True)
class RealVideoMixture:
    """How often clips of each kind are drawn, and how they are made.

    Attributes:
        real: share of clips of `video_train` without pasted objects; shares are relative to their sum and may be 0.
        pasted: share of such clips with objects pasted in, from other clips and, unless the next three shares are 0,
            from photographs.
        composite: share of clips in which cut-outs of photographs move over another photograph.
        warped: share of clips of a photograph that is warped as a whole.
        moving: share of clips of the videos in `video`, in which everything that moves is foreground.
        zoom: largest / smallest scale of things in a clip, for all kinds except `moving`; 1 for none.
        zoomed: fraction of clips with zoom.
        doubles: fraction of pasted clips with a double of one of the host's own objects.
        turned: fraction of moving cut-outs of photographs that also turn about their own axis.
        limbs: fraction of moving things in composites that have swinging limbs.
        spray: fraction of composites in which an object throws up dust, smoke or water.
        new_looks: fraction of real and pasted clips with changed colours and camera effects.
        screens: fraction of clips with a screen with holes in front, if there are photographs.
        jitter: maximum rotation of each frame of a real clip, in degrees; the maximum shear is two thirds of it.
        left_out: videos of `video_train` that are not trained on.
    """

    real: float = 0.28
    pasted: float = 0.34
    composite: float = 0.28
    warped: float = 0.08
    moving: float = 0.02
    zoom: float = 3.0
    zoomed: float = 0.5
    doubles: float = 0.5
    turned: float = 0.5
    limbs: float = 0.25
    spray: float = 0.12
    screens: float = 0.15
    new_looks: float = 0.7
    jitter: float = 15.0
    left_out: tuple[str, ...] = SELECTION


def open_real_video(root: Path, mixture: RealVideoMixture = RealVideoMixture()) -> Mixture:
    """Returns clips of a folder with `static/NAME/{images,masks}`, `video/NAME/…` and `video_train/SET/NAME/…`.

    Of `VIDEO_FOLDERS`, only the first must exist. Folders that are used only by kinds with the share 0 may be missing.

    Raises:
        InputError: a folder that the mixture needs is missing or incomplete.
    """
    jitter = AffineJitter(mixture.jitter, mixture.jitter * 2 / 3)
    zoom = ZoomAugmentation(mixture.zoom, affine=jitter) if mixture.zoom > 1 else None
    sources: list[tuple[ClipSource, float]] = []
    kinds = mixture.composite, mixture.warped, mixture.moving
    photographs = None
    if sum(kinds) > 0:
        recipe = CompositeRecipe(
            *kinds,
            zoom=mixture.zoom,
            zoomed=mixture.zoomed,
            turned=mixture.turned,
            spray=mixture.spray,
            limbs=mixture.limbs,
        )
        composites = CompositeClips(root, recipe)
        sources, photographs = [(composites, sum(kinds))], composites.static
    if mixture.real + mixture.pasted > 0:
        clips = [
            (
                folder,
                VideoClips(
                    videos,
                    VideoAugmentation(affine=jitter),
                    frame_step=folder.frame_step,
                    zoom=zoom,
                    zoomed=mixture.zoomed,
                ),
            )
            for folder, videos in _videos(root / "video_train", mixture.left_out)
        ]
        real = Mixture([(source, folder.share) for folder, source in clips])
        guests = [(source, folder.share) for folder, source in clips if folder.guests]
        pasted = PastedClips(real, guests, mixture.zoom, mixture.doubles, photographs, mixture.turned)
        share = mixture.new_looks
        sources = [(NewLooks(real, share), mixture.real), (NewLooks(pasted, share), mixture.pasted), *sources]
    if photographs is not None and mixture.screens > 0:
        sources = [(Screens(source, photographs, mixture.screens), weight) for source, weight in sources]
    return Mixture(sources)


def _videos(root: Path, left_out: tuple[str, ...]) -> list[tuple[VideoFolder, list[AnnotatedVideo]]]:
    """The videos of each set that exists."""
    found = []
    known = {folder.name for folder in VIDEO_FOLDERS}
    if others := sorted(path.name for path in root.glob("*/") if path.name not in known):
        log.warning("ignored in %s: %s; the recipe only uses %s", root, listed(others), ", ".join(sorted(known)))
    for number, folder in enumerate(VIDEO_FOLDERS):
        if number and not (root / folder.name).is_dir():
            continue
        found.append((folder, [video for video in folder.open(root) if video.name not in left_out]))
    if not found[0][1]:
        raise InputError(
            f"all videos of {root / VIDEO_FOLDERS[0].name} are left out ({', '.join(left_out)})", "leave out fewer"
        )
    return found
