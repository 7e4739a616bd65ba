import pytest
from kedro.io import DatasetError

from lymphocytosis.errors import UserError


@pytest.fixture(scope="session")
def refused():
    """Like pytest.raises: Kedro passes a dataset's UserError on as the cause of an error of its."""

    def expect(match):
        return pytest.raises(
            DatasetError, match=match, check=lambda error: isinstance(error.__cause__, UserError)
        )

    return expect
