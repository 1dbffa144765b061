"""One zygote, and one set of uninterrupted runs, for all tests of this folder."""

import pytest

from tests.faults.harness import References, Zygote


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    zygote = Zygote(tmp_path_factory.mktemp("faults") / "log")
    yield zygote
    zygote.close()


@pytest.fixture(scope="session")
def references(zygote, tmp_path_factory):
    return References(zygote, tmp_path_factory.mktemp("projects"))
