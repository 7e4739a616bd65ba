import subprocess
import sys

import pytest
import timm

from lymphocytosis.encoders.names import check_name, family_of
from lymphocytosis.errors import UserError


def test_an_unknown_one_is_answered_with_near_ones():
    with pytest.raises(UserError, match=r"encoder\.name.*eficientnet_b7.*efficientnet_b7"):
        check_name("tf_eficientnet_b7")


def test_a_tag_is_taken():
    check_name("tf_efficientnet_b7.aa_in1k")


def test_timms_source_tells_of_models_as_timm_does():
    for name in timm.list_models()[::40]:
        assert name in timm.list_models(module=family_of(name))
    # Functions of timm, but no models.
    for name in ("create_model", "_create_resnet", "resnet", "efficientnet"):
        assert (family_of(name) is not None) == timm.is_model(name)


def test_a_known_one_costs_no_import_of_torch():
    code = (
        "import sys; from lymphocytosis.encoders.names import check_name as c; "
        "c('tf_efficientnet_b7.aa_in1k'); "
        "print([m for m in ('torch', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
