"""Looking through a source: which files are images, and which folders are classes."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hdkd_dist.data.preparing.image_sources import File, Folder, walk
from hdkd_dist.data.preparing.label_lists import EXPECTED, IN_PART

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pnm", ".pbm", ".pcx", ".tga", ".qoi", ".jp2", ".j2k", ".avif"),
)
# How image files begin, for those of another suffix or of none; at most 12 bytes.
BEGINNINGS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"qoif"),
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"P4\n", b"P5\n", b"P6\n"),
)
SHOWN = 5  # names in a message


@dataclass
class Survey:
    """Look through the parts of a source and remember what it has left out."""

    seen: Callable[[], None]  # called for each file
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def images(self, folder: Folder) -> Iterator[File]:
        """Yield the images in and below a folder, known by suffix or by content."""
        for file in walk(folder):
            self.seen()
            if file.name in IN_PART:
                continue
            if is_image(file):
                yield file
            else:
                self.left_out.append(file.path)

    def classes_below(self, part: Folder) -> dict[str, list[File]]:
        """Return the images of a part by class folder, whatever one folder lies around them."""
        around = part
        while len(part.folders) == 1 and not any(map(is_image, part.files.values())):
            (inner,) = part.folders.values()
            if len(inner.folders) < 2:
                break
            part = inner
        if part is not around:
            self.notes.append(f"the {len(part.folders)} folders in {part.path} are the classes")
        found = {name: list(self.images(folder)) for name, folder in part.folders.items()}
        nested = [name for name, folder in part.folders.items() if len(folder.folders) > 1]
        if nested:
            inner_names = ", ".join(list(part.folders[nested[0]].folders)[:SHOWN])
            self.notes.append(
                f"{part.folders[nested[0]].path} is one class, though there are folders in it "
                f"({inner_names}{'' if len(nested) == 1 else '; the same in others'})"
            )
        if loose := [file for file in part.files.values() if is_image(file)]:
            if not any(found.values()):
                raise ValueError(
                    f"{loose[0].path} lies in no folder of its class, and there is no list of "
                    f"labels: known are {EXPECTED}; or name one by --val_labels"
                )
            raise ValueError(f"{loose[0].path} lies beside the folders of classes: move it")
        return found

    def left_out_note(self) -> list[str]:
        """Say what was left out, by suffix."""
        kinds = Counter(posixpath.splitext(path)[1].lower() for path in self.left_out)
        if not kinds:
            return []
        counts = ", ".join(
            f"{number} {kind or 'without a suffix'}" for kind, number in kinds.items()
        )
        names = ", ".join(self.left_out[:SHOWN])
        return [f"{len(self.left_out)} files are no images and were left out: {counts} ({names})"]


def is_image(file: File) -> bool:
    """Return whether a file is one to decode: by its suffix, or by how it begins."""
    if file.name.lower().endswith(SUFFIXES):
        return True
    start = file.read(12)
    return (
        start.startswith(BEGINNINGS)
        or (start.startswith(b"RIFF") and start.endswith(b"WEBP"))
        or start[4:] in (b"ftypavif", b"ftypavis")
    )
