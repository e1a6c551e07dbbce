"""Know what has been computed: in the results that are kept, and in folders of finished runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hdkd_dist.data.manifest import read_manifest
from hdkd_dist.files.replacing import replace_file
from hdkd_dist.files.strict_json import parse_json, read_json_object, to_json
from hdkd_dist.paper.records import DONE, Record, lay_out, read_records, record_of, write_records
from hdkd_dist.paper.scales import Scale
from hdkd_dist.paper.trials import Folders, Source, Trial


@dataclass
class Ledger:
    """Hold the finished runs of a scale, by name."""

    scale: Scale
    place: Folders
    results: Path
    records: dict[str, Record]

    @classmethod
    def read(cls, scale: Scale, place: Folders, results: Path) -> Ledger:
        """Read the results that are kept."""
        return cls(scale, place, results, read_records(results, scale.name))

    def look(self, trials: Iterable[Trial]) -> None:
        """Take in those of the trials whose folders hold finished runs.

        Raises:
            ValueError: if such a run, or one of the results, was made with other settings.
        """
        for trial in trials:
            known = self.records.get(trial.name)
            if known is None and (done := read_done(self.place.run(trial))) is not None:
                check_identity(trial, done.identity, str(self.place.run(trial)))
                self.records[trial.name] = record_of(trial, self.place.run(trial), done.data)
            elif known is not None:
                check_identity(trial, known.identity, str(self.results))

    def check_data(self, trials: Iterable[Trial]) -> None:
        """Refuse to mix runs on different splits of the same images in one table.

        Raises:
            ValueError: if the data at hand are not those of a trial among the results.
        """
        for trial in trials:
            folder = self.place.data_set(trial)
            known = self.records[trial.name].data if self.has(trial) else ""
            found = digest_in(folder) if known else ""
            if found and found != known:
                raise ValueError(
                    f"{self.results} holds {trial.name}, trained on other data than {folder} "
                    f"({known} → {found}): prepare it from the same source with the same --seed, "
                    "or choose another --out and --results"
                )

    def has(self, trial: Trial) -> bool:
        """Tell whether the trial is finished."""
        return trial.name in self.records

    def restricted_to(self, trials: Iterable[Trial]) -> Ledger:
        """Leave out runs that are none of these, or were made with other settings."""
        found = {
            trial.name: self.records[trial.name]
            for trial in trials
            if self.has(trial) and not differing(trial, self.records[trial.name].identity)
        }
        return replace(self, records=found)

    def source(self, source: Trial, trial: Trial) -> Source:
        """Lay out the finished run ``source``, on which ``trial`` builds."""
        folder = self.place.source(source)
        lay_out(self.records[source.name], folder)
        return Source(folder, trial.rate)

    def save(self) -> None:
        """Keep what is known."""
        write_records(self.records, self.results, self.scale.name)


@dataclass(frozen=True)
class FinishedMark:
    """Note what a finished run was: see ``Trial.identity`` and ``Record.data``."""

    identity: dict[str, object]
    data: str


def mark_done(trial: Trial, place: Folders) -> None:
    """Note that a run is trained and evaluated, as what and on which data."""
    mark = FinishedMark(trial.identity, digest_in(place.data_set(trial)))
    replace_file(place.run(trial) / DONE, to_json(asdict(mark)) + "\n")


def read_done(folder: Path) -> FinishedMark | None:
    """Read what the finished run in ``folder`` was, if there is one.

    Raises:
        ValueError: if the note is not ours.
    """
    file = folder / DONE
    try:
        return FinishedMark(**read_json_object(file)) if file.exists() else None
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is damaged or of another version ({error}): remove {folder}, and the run is "
            "done again"
        ) from None


def digest_in(folder: Path) -> str:
    """Return the digest of a prepared data set; "" where there is none."""
    return read_manifest(folder).digest if folder.exists() else ""


def check_identity(trial: Trial, found: Mapping[str, object], where: str) -> None:
    """Refuse a run of the same name but other settings."""
    if changed := differing(trial, found):
        changes = ", ".join(f"{key} {was!r} → {now!r}" for key, (was, now) in changed.items())
        raise ValueError(
            f"{where} holds {trial.name} with other settings ({changes}): remove that run there, "
            "or choose another --out and --results"
        )


def differing(trial: Trial, found: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """Return what a run's identity says and what the trial's does, where they differ."""
    own = parse_json(to_json(trial.identity))
    keys = sorted({*own, *found})
    return {key: (found.get(key), own.get(key)) for key in keys if own.get(key) != found.get(key)}
