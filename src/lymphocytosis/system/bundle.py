"""A bundle: a trained system as one folder, carried to machines that don't have the cohort.

`manifest.json` lists every other file with its size and digest; `manifest.sig` signs the manifest.
"""

import json
import logging
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lymphocytosis.decision.referral import Referral
from lymphocytosis.decision.unlike import Reference
from lymphocytosis.encoders import checkpoint
from lymphocytosis.errors import UserError, brief, some
from lymphocytosis.model_files import MISFITS, read_model_file, write_model_file
from lymphocytosis.parameters import OF_MACHINE, ComputeParameters, EnsembleParameters
from lymphocytosis.whole_files import appearing_whole

if TYPE_CHECKING:  # a third of a second, for keys that most runs don't have
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

logger = logging.getLogger(__name__)

FORMAT = "lymphocytosis bundle"
VERSION = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
_CARD, _ENCODER, _ONNX = "README.md", "encoder.pt", "encoder.onnx"
_DECISION, _REFERENCE = "decision.json", "reference.safetensors"
_SIZES = ("large", "small")
# How far a bundle's models are named: by embedding size, and whether they take pictures only.
MODELS = (*_SIZES, *(f"{size}_pictures_only" for size in _SIZES))

_MB = 1024**2
# The most bytes of each file. EfficientNet-B7 takes 270 MB; ONNX itself ends at 2 GiB.
_MOST = {
    MANIFEST: _MB,
    SIGNATURE: 64,
    _CARD: _MB,
    _DECISION: _MB,
    _REFERENCE: 256 * _MB,
    _ENCODER: 2048 * _MB,
    _ONNX: 2048 * _MB,
    **{f"{model}_classifiers.pt": 1024 * _MB for model in MODELS},
}
# What each bundle has; of the others, it has what its recipe needs.
_ALWAYS = {_CARD, _DECISION, _REFERENCE, _ENCODER, *(f"{size}_classifiers.pt" for size in _SIZES)}
_PRIVATE = (
    "expected is an Ed25519 private key in PEM form, without a password: "
    "openssl genpkey -algorithm ed25519 -out key.pem"
)
_PUBLIC = (
    "expected is an Ed25519 public key in PEM form, as by "
    "openssl pkey -in key.pem -pubout -out public.pem"
)
_COPY = "Copy the whole bundle again, or make it again (kedro run --pipelines=bundle)"


@dataclass(frozen=True)
class Bundle:
    """Everything that a new patient's diagnosis needs, and nothing of one training patient.

    Attributes:
        autoencoder: the encoder, packed, without what embedding doesn't need.
        onnx: the same encoder as `backend.export_onnx` returns it, or None where torch runs it.
        classifiers: packed, by a name of `MODELS`; those for pictures only are there if the others
            take clinical values too.
        referrals: for the models of the size `ensemble.size`, by the same names.
        reference: what training patients look like.
        ensemble: the block `ensemble` of the parameters.
        compute: the block `compute`; the accelerator is `auto`, as each machine has its own.
        facts: what manifest and card tell of the system; plain values.
        card: README.md, in Markdown.
        fingerprint: the digest of the manifest, and so of everything; empty before it was written.
    """

    autoencoder: dict[str, Any]
    onnx: bytes | None
    classifiers: dict[str, dict[str, Any]]
    referrals: dict[str, Referral]
    reference: Reference
    ensemble: EnsembleParameters
    compute: ComputeParameters
    facts: dict[str, Any]
    card: str
    fingerprint: str = field(default="", compare=False)


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _File(_Block):
    bytes: int = Field(ge=0)
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Manifest(_Block):
    format: Literal["lymphocytosis bundle"]
    version: Literal[1]
    ensemble: EnsembleParameters
    compute: ComputeParameters
    facts: dict[str, Any]
    files: dict[str, _File]


def write_bundle(bundle: Bundle, folder: Path, signing_key: bytes | None) -> None:
    """Write a bundle, whole or not at all; the same bundle gives the same bytes.

    Args:
        bundle: the bundle.
        folder: where to; an earlier bundle there is replaced.
        signing_key: an Ed25519 private key in PEM form, or None to sign nothing.

    Raises:
        UserError: the folder holds something else, or this is no such key.
    """
    check_writable(folder, signing_key)
    with appearing_whole(folder.resolve()) as path:
        path.mkdir()
        (path / _CARD).write_bytes(bundle.card.encode())
        referrals = {model: asdict(referral) for model, referral in bundle.referrals.items()}
        (path / _DECISION).write_bytes(_json(referrals))
        write_model_file(bundle.autoencoder, path / _ENCODER)
        if bundle.onnx is not None:
            (path / _ONNX).write_bytes(bundle.onnx)
        for model, classifiers in bundle.classifiers.items():
            write_model_file(classifiers, path / f"{model}_classifiers.pt")
        # Of an array in another order, safetensors would mix up the values.
        arrays = {k: np.asarray(v, order="C") for k, v in bundle.reference.arrays().items()}
        (path / _REFERENCE).write_bytes(safetensors.numpy.save(arrays))
        manifest = _json(
            {
                "format": FORMAT,
                "version": VERSION,
                "ensemble": bundle.ensemble.model_dump(mode="json"),
                "compute": bundle.compute.model_dump(
                    mode="json", exclude=OF_MACHINE - {"accelerator"}
                ),
                "facts": bundle.facts,
                "files": {file.name: _record(file.read_bytes()) for file in path.iterdir()},
            }
        )
        (path / MANIFEST).write_bytes(manifest)
        if signing_key is not None:
            (path / SIGNATURE).write_bytes(_private(signing_key).sign(manifest))


def check_writable(folder: Path, signing_key: bytes | None) -> None:
    """Refuse a folder or a key that `write_bundle` can't use.

    Args:
        folder: of the bundle.
        signing_key: as in `write_bundle`.

    Raises:
        UserError: the folder holds something else than a bundle, or this is no such key.
    """
    if signing_key is not None:
        _private(signing_key)
    if folder.is_dir() and any(folder.iterdir()):
        try:
            with (folder / MANIFEST).open("rb") as file:
                ours = json.loads(file.read(_MOST[MANIFEST]))["format"] == FORMAT
        except (OSError, *MISFITS, RecursionError):
            ours = False
        if not ours:
            raise UserError(
                f"The bundle would replace {folder}, which holds something else. Give a new folder "
                "by --params=bundle=..."
            )
    elif folder.exists() and not folder.is_dir():
        raise UserError(f"A bundle is a folder, and {folder} is a file. Give another one.")


def read_bundle(folder: Path, trusted_key: bytes | None) -> Bundle:
    """Read a bundle; each file is checked before any is unpickled.

    Args:
        folder: of the bundle.
        trusted_key: the Ed25519 public key, in PEM form, of the one who must have signed it; None
            to take it unsigned, too.

    Returns:
        The bundle.

    Raises:
        UserError: a file is missing, changed, too large or none of a bundle's; the bundle has
            another format; it is not signed by this key.
    """
    if not folder.is_dir():
        raise UserError(
            f"There is no bundle {folder}. Name another folder, or make one: "
            "kedro run --pipelines=bundle"
        )
    there = _files(folder)
    content = _read(folder, MANIFEST, there)
    if trusted_key is not None:
        _check_signature(folder, content, there, trusted_key)
    elif SIGNATURE in there:
        logger.warning(
            "The bundle %s is signed, but by whom was not checked: no key is given "
            "(--params=trusted_key=...).",
            folder,
        )
    manifest = _parse(folder, content)
    listed = manifest.files.keys()
    if missing := sorted((listed | _ALWAYS) - there.keys()):
        raise _refused(folder, f"{some(missing)} is missing", _COPY)
    if extra := sorted(there.keys() - listed - {MANIFEST, SIGNATURE}):
        raise _refused(folder, f"{some(extra)} is no file of it", "Remove it")
    contents = {name: _read(folder, name, there) for name in sorted(listed)}
    for name, found in contents.items():
        if _record(found) != manifest.files[name].model_dump():
            raise _refused(folder, f"{name} has changed since the bundle was made", _COPY)
    return _assemble(folder, manifest, contents, sha256(content).hexdigest())


def _files(folder: Path) -> dict[str, int]:
    """The bytes of each file; anything else is refused."""
    found = {}
    for path in sorted(folder.iterdir()):
        name, seen = path.name, path.lstat()
        shown = some([ascii(name)[1:-1]])
        if stat.S_ISLNK(seen.st_mode):
            raise _refused(folder, f"{shown} is a link", "Put the file itself in its place")
        if name not in _MOST or not stat.S_ISREG(seen.st_mode):
            raise _refused(folder, f"{shown} is no file of a bundle", "Remove it")
        if seen.st_size > _MOST[name]:
            raise _refused(
                folder, f"{name} has {seen.st_size} bytes, more than {_MOST[name]}", _COPY
            )
        found[name] = seen.st_size
    return found


def _read(folder: Path, name: str, there: Mapping[str, int]) -> bytes:
    if name not in there:
        raise _refused(folder, f"{name} is missing", _COPY)
    try:
        # Each file is read once: what was checked is what is used.
        with (folder / name).open("rb") as file:
            return file.read(there[name] + 1)
    except OSError as error:
        raise _refused(folder, f"{name} can't be read ({error.strerror})", _COPY) from error


def _check_signature(
    folder: Path, manifest: bytes, there: Mapping[str, int], trusted_key: bytes
) -> None:
    from cryptography.exceptions import InvalidSignature

    key = _public(trusted_key)
    ask = "Ask the one who made it for a signed bundle"
    if SIGNATURE not in there:
        raise _refused(folder, f"trusted_key is given, and it has no {SIGNATURE}", ask)
    try:
        key.verify(_read(folder, SIGNATURE, there), manifest)
    except InvalidSignature:
        raise _refused(
            folder, f"{MANIFEST} was changed, or signed by another key than trusted_key", ask
        ) from None


def _parse(folder: Path, content: bytes) -> _Manifest:
    try:
        raw = json.loads(content)
        _json(raw)  # Python would read NaN and 1e999, which are no JSON
        given, version = raw["format"], raw["version"]
    except (*MISFITS, RecursionError) as error:
        raise _refused(folder, f"{MANIFEST} can't be read ({brief(error)})", _COPY) from None
    if given == FORMAT and version != VERSION:
        raise _refused(
            folder,
            f"{MANIFEST} has the format version {str(version)[:20]}, and this lymphocytosis reads "
            f"{VERSION}",
            "Use the version of lymphocytosis that made it, or make it again with this one",
        )
    try:
        manifest = _Manifest.model_validate(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise _refused(
            folder, f"{MANIFEST} can't be used: {some([where])}: {fault['msg']}", _COPY
        ) from None
    if not manifest.files.keys() <= _MOST.keys() - {MANIFEST, SIGNATURE}:
        raise _refused(folder, f"{MANIFEST} lists files that no bundle has", _COPY)
    return manifest


def _assemble(
    folder: Path, manifest: _Manifest, contents: Mapping[str, bytes], fingerprint: str
) -> Bundle:
    name = _DECISION
    try:
        referrals = {
            str(model): Referral(**values) for model, values in json.loads(contents[name]).items()
        }
        name = _REFERENCE
        reference = Reference.from_arrays(safetensors.numpy.load(contents[name]))
        name = _CARD
        card = contents[name].decode()
    except (UserError, *MISFITS, safetensors.SafetensorError, RecursionError) as error:
        raise _refused(folder, f"{name} can't be used ({brief(error)})", _COPY) from error
    models = {
        name: read_model_file(folder / name, content=content)
        for name, content in contents.items()
        if name.endswith(".pt")
    }
    autoencoder = models.pop(_ENCODER)
    classifiers = {name.removesuffix("_classifiers.pt"): held for name, held in models.items()}
    encoder = checkpoint.fingerprint(autoencoder)
    for model, held in classifiers.items():
        try:
            same = held["parameters"]["encoder"] == encoder
        except MISFITS:
            same = False
        if not same:
            raise _refused(folder, f"{model}_classifiers.pt is of another encoder", _COPY)
    if not referrals or not referrals.keys() <= classifiers.keys():
        raise _refused(folder, f"{_DECISION} is of other models than the bundle's", _COPY)
    return Bundle(
        autoencoder,
        contents.get(_ONNX),
        classifiers,
        referrals,
        reference,
        manifest.ensemble,
        manifest.compute,
        manifest.facts,
        card,
        fingerprint,
    )


def _refused(folder: Path, what: str, to_do: str) -> UserError:
    return UserError(f"The bundle {folder} can't be used: {what}. {to_do}.")


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _record(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": sha256(content).hexdigest()}


def _private(pem: bytes) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = _key(pem, partial(load_pem_private_key, password=None), "signing_key", _PRIVATE)
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"signing_key is a key of another kind; {_PRIVATE}")
    return key


def _public(pem: bytes) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = _key(pem, load_pem_public_key, "trusted_key", _PUBLIC)
    if not isinstance(key, Ed25519PublicKey):
        raise UserError(f"trusted_key is a key of another kind; {_PUBLIC}")
    return key


def _key(pem: bytes, load: Callable[[bytes], Any], parameter: str, expected: str) -> Any:
    try:
        return load(pem)
    except Exception as error:
        # Of many kinds, by what is wrong with the file.
        raise UserError(f"{parameter} can't be read ({brief(error)}); {expected}") from None
