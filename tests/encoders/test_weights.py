from lymphocytosis.encoders.weights import fingerprint
from lymphocytosis.parameters import EncoderParameters


def test_another_file_of_the_same_name_is_told_from_the_first(tmp_path):
    path = tmp_path / "weights.pth"
    digests = []
    for content in (b"first", b"other"):
        path.write_bytes(content)
        encoder = EncoderParameters(name="resnet18", weights=str(path), small_dim=8)
        digests.append(fingerprint(encoder))
    assert len(set(digests)) == 2
    assert fingerprint(encoder.model_copy(update={"weights": "random"})) == ""
