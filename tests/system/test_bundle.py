import hashlib
import json
import logging
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from lymphocytosis.decision.referral import Referral
from lymphocytosis.decision.unlike import MEASURED, fit_reference
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import ComputeParameters
from lymphocytosis.system import bundle as module
from lymphocytosis.system.bundle import Bundle, check_writable, read_bundle, write_bundle
from lymphocytosis.system.trained import load_system
from tests.system.conftest import ENSEMBLE

PEM, PKCS8 = Encoding.PEM, PrivateFormat.PKCS8


def private(key, encryption=None):
    return key.private_bytes(PEM, PKCS8, encryption or NoEncryption())


def public(key):
    return key.public_key().public_bytes(PEM, PublicFormat.SubjectPublicKeyInfo)


KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def made(trained, autoencoder):
    """A bundle of a few patients."""
    generator = np.random.default_rng(0)
    patients = pd.DataFrame(
        {
            "patient_id": [f"P{n}" for n in range(8)],
            "person": [f"P{n}" for n in range(8)],
            "age_years": 50.0 + np.arange(8),
            "lymphocyte_count": 5.0 + np.arange(8),
        }
    )
    cells = pd.DataFrame({"patient_id": patients["patient_id"].repeat(3), "status": "taken"})
    reference = fit_reference(
        patients,
        cells.reset_index(drop=True),
        generator.normal(size=(24, len(MEASURED))).astype(np.float32),
        generator.normal(size=(24, 5)).astype(np.float32),
    )
    referral = Referral("platt", (1.5, -0.25), 0.4, 0.3, 0.6, 9, 15, "out of fold")
    return Bundle(
        autoencoder=autoencoder(),
        onnx=b"a graph",
        classifiers=trained.classifiers,
        referrals={"large": referral},
        reference=reference,
        ensemble=ENSEMBLE,
        compute=ComputeParameters(
            accelerator="auto", precision="32-true", embed_batch_size=4, embed_backend="onnx"
        ),
        facts={"splits": 2, "name": "Zoë"},
        card="# A card of Zoë's\n",
    )


@pytest.fixture
def folder(made, tmp_path):
    """The bundle, signed, in a folder of its own."""
    write_bundle(made, tmp_path / "bundle", private(KEY))
    return tmp_path / "bundle"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def change_manifest(folder, change):
    """Change the manifest as someone would who can make digests, but has no key."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def list_anew(folder):
    """Give the manifest the digests of the files as they are now."""

    def change(manifest):
        for name in manifest["files"]:
            content = (folder / name).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            manifest["files"][name] = {"bytes": len(content), "sha256": digest}

    change_manifest(folder, change)


class TestThereAndBack:
    def test_all_that_was_written_is_read(self, made, folder):
        read = read_bundle(folder, public(KEY))
        for name in ("onnx", "referrals", "ensemble", "compute", "facts", "card"):
            assert getattr(read, name) == getattr(made, name)
        system = load_system(read.autoencoder, read.classifiers, read.ensemble)
        assert set(system.suites) == {"large", "small"}
        for model, held in made.classifiers.items():
            for split, state in held["state_dicts"].items():
                found = read.classifiers[model]["state_dicts"][split]
                assert all(torch.equal(found[name], value) for name, value in state.items())
        arrays = made.reference.arrays()
        assert all(np.array_equal(v, arrays[k]) for k, v in read.reference.arrays().items())
        manifest = (folder / "manifest.json").read_bytes()
        assert read.fingerprint == hashlib.sha256(manifest).hexdigest()

    def test_the_same_bundle_gives_the_same_bytes_wherever_it_is_written(
        self, made, folder, tmp_path
    ):
        write_bundle(made, tmp_path / "elsewhere/again", private(KEY))
        again = contents(tmp_path / "elsewhere/again")
        assert again == contents(folder)
        read = read_bundle(folder, None)
        write_bundle(read, tmp_path / "copied", private(KEY))
        assert contents(tmp_path / "copied") == again

    def test_the_manifest_lists_every_other_file(self, folder):
        listed = json.loads((folder / "manifest.json").read_text())["files"]
        there = contents(folder)
        assert listed.keys() == there.keys() - {"manifest.json", "manifest.sig"}
        for name, record in listed.items():
            assert record["bytes"] == len(there[name])
            assert record["sha256"] == hashlib.sha256(there[name]).hexdigest()

    def test_without_a_graph_and_without_a_key_it_has_fewer_files(self, made, tmp_path):
        write_bundle(replace(made, onnx=None), tmp_path / "bundle", None)
        assert not {"manifest.sig", "encoder.onnx"} & contents(tmp_path / "bundle").keys()
        assert read_bundle(tmp_path / "bundle", None).onnx is None


class TestWriting:
    def test_an_earlier_bundle_is_replaced_as_a_whole(self, made, folder):
        write_bundle(replace(made, onnx=None, card="new"), folder, None)
        assert not {"manifest.sig", "encoder.onnx"} & contents(folder).keys()
        assert read_bundle(folder, None).card == "new"
        assert [path.name for path in folder.parent.iterdir()] == ["bundle"]

    def test_a_failure_leaves_the_earlier_one(self, made, folder, monkeypatch):
        before = contents(folder)
        monkeypatch.setattr(module, "write_model_file", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_bundle(made, folder, None)
        assert contents(folder) == before
        assert [path.name for path in folder.parent.iterdir()] == ["bundle"]

    @pytest.mark.parametrize(
        "manifest", [None, "{}", "[]", "no JSON", "[" * 100_000, '{"format": "another"}']
    )
    def test_what_is_no_bundle_is_not_replaced(self, made, tmp_path, manifest):
        (tmp_path / "thesis.txt").touch()
        if manifest is not None:
            (tmp_path / "manifest.json").write_text(manifest)
        with pytest.raises(UserError, match=r"would replace .*something else\. Give a new folder"):
            write_bundle(made, tmp_path, None)
        assert (tmp_path / "thesis.txt").exists()

    def test_neither_is_a_file(self, made, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"is a folder, and .* is a file"):
            write_bundle(made, tmp_path / "file", None)

    def test_an_empty_folder_is_taken(self, made, tmp_path):
        write_bundle(made, tmp_path, None)
        assert read_bundle(tmp_path, None).card == made.card


class TestRefused:
    @pytest.fixture
    def refused(self, folder, monkeypatch):
        """A function that reads the bundle and returns why it was refused; nothing is unpickled."""

        def read(trusted_key=None):
            with monkeypatch.context() as patched:
                patched.setattr(torch, "load", None)
                with pytest.raises(UserError) as caught:
                    read_bundle(folder, trusted_key)
            said = str(caught.value)
            assert said.startswith(f"The bundle {folder} can't be used: ")
            assert said.count("\n") == 0
            return said

        return read

    EVERY = (
        "README.md", "decision.json", "encoder.onnx", "encoder.pt", "large_classifiers.pt",
        "reference.safetensors", "small_classifiers.pt",
    )  # fmt: skip

    def test_every_file_of_the_tests_is_one_of_the_bundle(self, folder):
        assert {*self.EVERY, "manifest.json", "manifest.sig"} == contents(folder).keys()

    @pytest.mark.parametrize("name", [*EVERY, "manifest.json"])
    def test_a_missing_file(self, folder, refused, name):
        (folder / name).unlink()
        assert f"{name} is missing. Copy the whole bundle again" in refused()

    @pytest.mark.parametrize("name", EVERY)
    @pytest.mark.parametrize("change", ["a byte", "longer", "shorter"])
    def test_a_changed_file(self, folder, refused, name, change):
        content = (folder / name).read_bytes()
        middle = len(content) // 2
        one = bytes([content[middle] ^ 1])
        (folder / name).write_bytes(
            {
                "a byte": content[:middle] + one + content[middle + 1 :],
                "longer": content + b" ",
                "shorter": content[:-1],
            }[change]
        )
        assert f"{name} has changed since the bundle was made. Copy" in refused()

    @pytest.mark.parametrize("name", ["patients.csv", ".DS_Store", "a\nb", "x" * 200])
    def test_an_extra_file(self, folder, refused, name):
        (folder / name).touch()
        said = refused()
        assert " is no file of a bundle. Remove it." in said
        assert len(said.replace(str(folder), "")) < 200

    def test_a_file_that_the_manifest_does_not_list(self, folder, refused):
        change_manifest(folder, lambda manifest: manifest["files"].pop("encoder.onnx"))
        assert "encoder.onnx is no file of it. Remove it." in refused()

    def test_a_folder_in_it(self, folder, refused):
        (folder / "encoder.onnx").unlink()
        (folder / "encoder.onnx").mkdir()
        assert "encoder.onnx is no file of a bundle" in refused()

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    def test_what_would_never_end(self, folder, refused):
        (folder / "encoder.onnx").unlink()
        os.mkfifo(folder / "encoder.onnx")
        assert "encoder.onnx is no file of a bundle" in refused()

    @pytest.mark.parametrize("inside", [True, False])
    def test_a_link(self, folder, refused, inside):
        kept = folder.parent / "kept.pt"
        (folder / "encoder.pt").rename(kept)
        if inside:
            kept = folder / "small_classifiers.pt"
        (folder / "encoder.pt").symlink_to(kept)
        assert "encoder.pt is a link. Put the file itself in its place." in refused()

    @pytest.mark.parametrize("name", ["../encoder.pt", "/etc/passwd", "a\nb", "manifest.json"])
    def test_a_manifest_that_leads_elsewhere(self, folder, refused, name):
        def change(manifest):
            manifest["files"][name] = manifest["files"]["encoder.pt"]

        change_manifest(folder, change)
        assert "manifest.json lists files that no bundle has" in refused()

    @pytest.mark.parametrize("name", [*EVERY, "manifest.json", "manifest.sig"])
    def test_a_file_that_is_too_large_is_not_even_read(self, folder, refused, monkeypatch, name):
        monkeypatch.setitem(module._MOST, name, 3)
        size = (folder / name).stat().st_size
        assert f"{name} has {size} bytes, more than 3" in refused()

    def test_each_limit_leaves_room_for_the_largest_encoder(self):
        # EfficientNet-B7 with its small embedding, float32.
        assert module._MOST["encoder.pt"] > 2 * 4 * 66_000_000
        assert module._MOST["manifest.json"] == 1024**2

    @pytest.mark.parametrize("version", [0, 2, "1", None, [1] * 1000])
    def test_another_format_version(self, folder, refused, version):
        change_manifest(folder, lambda manifest: manifest.update(version=version))
        said = refused()
        assert "manifest.json has the format version" in said
        assert "reads 1. Use the version of lymphocytosis that made it" in said
        assert len(said.replace(str(folder), "")) < 300

    @pytest.mark.parametrize(
        "manifest",
        [
            "", "no JSON", "[]", "{}", "[" * 100_000, '{"format": 1, "version": 1}',
            '{"format": 1, "version": NaN}', '{"facts": 1e999}',
        ],
    )  # fmt: skip
    def test_a_manifest_that_is_none(self, folder, refused, manifest):
        (folder / "manifest.json").write_text(manifest)
        assert "manifest.json can't be " in refused()

    @pytest.mark.parametrize(
        ("at", "value"),
        [
            (("ensemble", "size"), "medium"),
            (("ensemble", "wanted_sensitivity"), 2.0),
            (("compute", "embed_batch_size"), True),
            (("files", "encoder.pt", "sha256"), "x"),
            (("facts",), None),
            (("more",), 1),
            (("facts",), [1]),
        ],
    )
    def test_a_manifest_with_a_wrong_value(self, folder, refused, at, value):
        def change(manifest):
            for key in at[:-1]:
                manifest = manifest[key]
            manifest[at[-1]] = value

        change_manifest(folder, change)
        assert f"manifest.json can't be used: {'.'.join(at)}: " in refused()

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("decision.json", b"[]"),
            ("decision.json", b'{"large": {"threshold": 0.5}}'),
            ("decision.json", b"[" * 100_000),
            ("reference.safetensors", b"\xff" * 100),
            ("README.md", b"\xff"),
        ],
    )
    def test_a_part_that_has_never_been_one(self, folder, refused, name, content):
        (folder / name).write_bytes(content)
        list_anew(folder)
        assert f"{name} can't be used (" in refused()

    @pytest.mark.parametrize("models", [{}, {"medium": None}])
    def test_advice_for_other_models(self, folder, models):
        referral = json.loads((folder / "decision.json").read_text())["large"]
        content = json.dumps(dict.fromkeys(models, referral))
        (folder / "decision.json").write_text(content)
        list_anew(folder)
        with pytest.raises(UserError, match=r"decision\.json is of other models"):
            read_bundle(folder, None)

    def test_a_reference_without_an_array(self, made, folder, refused):
        import safetensors.numpy

        arrays = {k: v for k, v in made.reference.arrays().items() if k != "levels"}
        (folder / "reference.safetensors").write_bytes(safetensors.numpy.save(arrays))
        list_anew(folder)
        assert "reference.safetensors can't be used (" in refused()

    def test_a_file_that_can_not_be_read(self, refused, monkeypatch):
        def fail(*_):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Path, "open", fail)
        assert "manifest.json can't be read (Input/output error)" in refused()

    def test_no_folder_and_a_file(self, folder):
        for path in (folder / "none", folder / "README.md"):
            with pytest.raises(UserError, match=r"There is no bundle .*--pipelines=bundle"):
                read_bundle(path, None)


class TestModels:
    def test_code_in_a_model_is_not_run_even_with_right_digests(self, folder, tmp_path):
        class Evil:
            def __reduce__(self):
                return Path.touch, (tmp_path / "ran",)

        torch.save({"kind": Evil()}, folder / "small_classifiers.pt")
        list_anew(folder)
        with pytest.raises(UserError, match=r"small_classifiers\.pt can't be loaded as a model"):
            read_bundle(folder, None)
        (folder / "small_classifiers.pt").write_bytes(pickle.dumps(Evil()))
        list_anew(folder)
        with pytest.raises(UserError, match="can't be loaded as a model"):
            read_bundle(folder, None)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("content", [{}, {"parameters": 1}, {"parameters": {"encoder": "x"}}])
    def test_classifiers_of_another_encoder(self, folder, content):
        torch.save(content, folder / "small_classifiers.pt")
        list_anew(folder)
        with pytest.raises(UserError, match=r"small_classifiers\.pt is of another encoder"):
            read_bundle(folder, None)


class TestSignature:
    def test_it_can_be_checked_without_this_project(self, folder):
        KEY.public_key().verify(
            (folder / "manifest.sig").read_bytes(), (folder / "manifest.json").read_bytes()
        )

    def test_a_changed_manifest_is_refused_though_all_digests_are_right(self, folder):
        (folder / "README.md").write_text("Trust me.")
        list_anew(folder)
        read_bundle(folder, None)
        with pytest.raises(UserError, match=r"manifest\.json was changed, or signed by another"):
            read_bundle(folder, public(KEY))

    def test_another_key_is_refused(self, folder):
        with pytest.raises(UserError, match=r"signed by another key than trusted_key\. Ask"):
            read_bundle(folder, public(OTHER_KEY))

    @pytest.mark.parametrize("signature", [b"", b"x" * 64])
    def test_a_damaged_signature_is_refused(self, folder, signature):
        (folder / "manifest.sig").write_bytes(signature)
        with pytest.raises(UserError, match="signed by another key"):
            read_bundle(folder, public(KEY))

    def test_a_missing_one_is_refused(self, folder):
        (folder / "manifest.sig").unlink()
        with pytest.raises(UserError, match=r"it has no manifest\.sig. Ask the one who made it"):
            read_bundle(folder, public(KEY))

    def test_that_it_was_not_checked_is_told(self, folder, caplog):
        read_bundle(folder, public(KEY))
        assert not caplog.records
        with caplog.at_level(logging.WARNING):
            read_bundle(folder, None)
        assert "is signed, but by whom was not checked" in caplog.text

    @pytest.mark.parametrize(
        ("pem", "told"),
        [
            (b"", "can't be read"),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "can't be read"),
            (public(KEY), "can't be read"),
            (private(KEY, BestAvailableEncryption(b"x")), "can't be read"),
            (private(X25519PrivateKey.generate()), "of another kind"),
        ],
    )
    def test_what_is_no_signing_key_is_refused_before_anything_is_written(
        self, made, tmp_path, pem, told
    ):
        for use in (write_bundle, lambda _, *rest: check_writable(*rest)):
            with pytest.raises(UserError, match=f"signing_key .*{told}.*openssl genpkey"):
                use(made, tmp_path / "bundle", pem)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("pem", "told"),
        [
            (b"", "can't be read"),
            (private(KEY), "can't be read"),
            (public(X25519PrivateKey.generate()), "of another kind"),
        ],
    )
    def test_nor_is_a_trusted_key(self, folder, pem, told):
        with pytest.raises(UserError, match=f"trusted_key .*{told}.*openssl pkey"):
            read_bundle(folder, pem)
