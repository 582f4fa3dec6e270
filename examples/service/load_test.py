"""How many frames a second the service answers, and how long each takes: clients that each track a drawn video.

python examples/service/app.py --port 8000 --sessions 8 &
python examples/service/load_test.py http://127.0.0.1:8000 --clients 1 2 4 --frames 20
"""

import argparse
import io
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
from PIL import Image

import mnemask as mm


def asked(address: str, method: str, body: bytes | None = None) -> bytes:
    """Returns the answer to a request; one that says that it is too busy is sent again a second later."""
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body, method=method), timeout=120) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code != 429:
                raise SystemExit(f"{error.code} {json.loads(error.read())}") from error
            time.sleep(1)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """Returns an image as the bytes of a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def client(service: str, frames: list[bytes], mask: bytes) -> list[float]:
    """Returns the seconds that each frame of one session took."""
    session = f"{service}/sessions/{json.loads(asked(f'{service}/sessions', 'POST'))['session']}"
    asked(f"{session}/masks", "PUT", mask)
    seconds = []
    for frame in frames:
        begin = time.perf_counter()
        asked(f"{session}/frames", "POST", frame)
        seconds.append(time.perf_counter() - begin)
    asked(session, "DELETE")
    return seconds


def main() -> None:
    """Prints a table with a row for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("service")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 854), metavar=("HEIGHT", "WIDTH"))
    given = parser.parse_args()
    video = list(mm.DrawnVideo(given.frames, tuple(given.size), num_objects=1))
    frames = [encoded(frame.image.permute(1, 2, 0).numpy(), "JPEG") for frame, _ in video]
    mask = encoded(video[0][1].byte().numpy(), "PNG")
    print("| clients | frames/s, all together | ms a frame, median | 95 % below |\n|---|---|---|---|")
    for number in given.clients:
        begin = time.perf_counter()
        with ThreadPoolExecutor(number) as threads:
            seconds = list(
                chain.from_iterable(threads.map(lambda _: client(given.service, frames, mask), range(number)))
            )
        rate = len(seconds) / (time.perf_counter() - begin)
        median, most = np.percentile(seconds, (50, 95)) * 1000
        print(f"| {number} | {rate:.1f} | {median:.0f} | {most:.0f} |", flush=True)


if __name__ == "__main__":
    main()
