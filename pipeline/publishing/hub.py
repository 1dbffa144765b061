"""Pushing a published folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from pipeline.common.errors import PublishError, one_line


def push(folder: Path, repo: str, run: str, *, private: bool) -> str:
    """Uploads a folder to NAMESPACE/NAME, which is made where it does not exist; returns its address.

    Raises:
        PublishError: the hub cannot be reached or refuses, or the repository is public and should not be.
    """
    api = HfApi()
    try:
        address = api.create_repo(repo, private=private or None, exist_ok=True)  # None: as the owner prefers
        if private and not api.model_info(repo).private:
            raise PublishError(f"{repo} is already there and public; give --repo another name, or make it private")
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=f"Publish {run}")
    except PublishError:
        raise
    except Exception as error:  # the library raises anything from ValueError to its HTTP client's own errors
        raise PublishError(
            f"{repo} cannot be pushed ({one_line(error)}); {folder} is complete: log in with `hf auth login` if you "
            "have not, and run the command again"
        ) from error
    return str(address)
