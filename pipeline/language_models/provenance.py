"""What a result was made with, besides params and code."""

from __future__ import annotations

from pipeline.checkpoints.versions import versions
from pipeline.language_models.loading import ROLES, model_commit
from pipeline.language_models.settings import ModelsParams
from pipeline.results.rows import Provenance


def provenance_of(models: ModelsParams) -> Provenance:
    """The versions of the libraries that decide a result's bits, and the hub's commit of each model.

    Raises:
        ModelError: the hub does not say which commit it gave.
    """
    return Provenance(versions(), {role: model_commit(models, role) for role in ROLES})
